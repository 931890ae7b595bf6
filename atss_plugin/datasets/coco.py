"""COCO, or one's own data in COCO's format, with errors that say what to change."""

import math
from typing import List, NoReturn

from mmdet.datasets import CocoDataset as MMDetCocoDataset

from atss_plugin.registry import DATASETS


@DATASETS.register_module()
class CocoDataset(MMDetCocoDataset):
    """mmdet's ``CocoDataset``, arguments and all; what it does not find is an error that says what to change.

    Raises:
        FileNotFoundError: the annotation file or an image is not where ``data_root``, ``ann_file`` and
            ``data_prefix`` say.
        ValueError: a class of ``metainfo`` is not in the annotation file, or a box is not finite.
    """

    def load_data_list(self) -> List[dict]:
        """Unlike mmdet's, which silently drops the boxes of every class that is called otherwise in ``metainfo``."""
        try:
            data_list = super().load_data_list()
        except FileNotFoundError as error:
            self._say_what_to_change(error)
        if len(self.cat_ids) != len(self.metainfo['classes']):
            raise ValueError(
                f'{self.ann_file!r} has {len(self.cat_ids)} of the {len(self.metainfo["classes"])} classes '
                f'{self.metainfo["classes"]}. Name the classes as its "categories" do, in '
                'metainfo=dict(classes=(...)) of the data set in your config.'
            )
        return data_list

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Unlike mmdet's, which lets a NaN through to the loss; here the image can still be named."""
        for annotation in raw_data_info['raw_ann_info']:
            if not all(math.isfinite(side) for side in annotation['bbox']):
                raise ValueError(
                    f'The box {annotation["bbox"]} of annotation {annotation["id"]}, on the image '
                    f'{raw_data_info["raw_img_info"]["file_name"]!r}, is not finite. Correct it in {self.ann_file!r}.'
                )
        return super().parse_data_info(raw_data_info)

    def prepare_data(self, idx: int) -> dict:
        try:
            return super().prepare_data(idx)
        except FileNotFoundError as error:
            self._say_what_to_change(error)

    def _say_what_to_change(self, error: FileNotFoundError) -> NoReturn:
        raise FileNotFoundError(
            f'{error}. The data set is looked for in data_root={self.data_root!r}, its annotations in '
            f'{self.ann_file!r}, its images in {self.data_prefix.get("img")!r}. Set the environment variable '
            'COCO_ROOT to the folder that holds annotations/, train2017/ and val2017/, or `data_root` in '
            'train_dataloader.dataset and val_dataloader.dataset (and val_evaluator.ann_file) of your config.'
        ) from error
