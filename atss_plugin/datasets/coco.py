"""COCO, with an error that says what to change where its folder is missing."""
from typing import List, NoReturn

from mmdet.datasets import CocoDataset as MMDetCocoDataset

from atss_plugin.registry import DATASETS


@DATASETS.register_module()
class CocoDataset(MMDetCocoDataset):
    """mmdet's ``CocoDataset``, arguments and all; only its error for a missing file says what to change.

    Raises:
        FileNotFoundError: the annotation file or an image is not where ``data_root``, ``ann_file`` and
            ``data_prefix`` say.
    """

    def load_data_list(self) -> List[dict]:
        try:
            return super().load_data_list()
        except FileNotFoundError as error:
            self._say_what_to_change(error)

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
