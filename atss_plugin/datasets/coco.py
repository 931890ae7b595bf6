"""COCO, or one's own data in COCO's format, with errors that say what to change."""

from typing import List, NoReturn, Optional

import mmcv
from mmdet.datasets import CocoDataset as MMDetCocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine import fileio

from atss_plugin.registry import DATASETS

from ..errors import UsageError
from .annotations import read_annotations


@DATASETS.register_module()
class CocoDataset(MMDetCocoDataset):
    """mmdet's ``CocoDataset``, arguments and all; what it cannot use is an error that says what to change.

    Unlike mmdet's it computes an ``area`` that is missing (not with ``test_mode``, since the evaluation reads the file
    again), and takes every category of the file, in the file's order, where ``metainfo=dict(classes=())``.

    Raises:
        FileNotFoundError: the annotation file or an image is not where ``data_root``, ``ann_file`` and
            ``data_prefix`` say.
        UsageError: the annotation file is incomplete, an entry of it lacks something or has an impossible value, a
            class of ``metainfo`` is not in it, or no image of it can be trained on; an image cannot be read.
    """

    def load_data_list(self) -> List[dict]:
        """Read the annotations, and refuse a class of ``metainfo`` that they lack.

        mmdet's silently drops the boxes of every class that has another name in ``metainfo``.
        """
        if 'img' not in self.data_prefix:
            raise UsageError(
                f"data_prefix={dict(self.data_prefix)} of the data set in your config lacks 'img': write "
                "data_prefix=dict(img='FOLDER/'), where the images are below data_root"
            )
        try:
            data_list = super().load_data_list()
        except FileNotFoundError as error:
            self._say_what_to_change(error)
        if len(self.cat_ids) != len(self.metainfo['classes']):
            raise UsageError(
                f'{self.ann_file!r} has {len(self.cat_ids)} of the {len(self.metainfo["classes"])} classes '
                f'{self.metainfo["classes"]}. Name the classes as its "categories" do, in '
                'metainfo=dict(classes=(...)) of the data set in your config.'
            )
        return data_list

    def COCOAPI(self, file: str) -> COCO:
        """Return the checked annotations; mmdet's ``load_data_list`` calls this as if it were the class."""
        coco = COCO()
        try:
            coco.dataset = read_annotations(file, for_evaluation=self.test_mode)
        except UsageError as error:
            raise UsageError(f'{self.ann_file!r}: {error}') from error
        coco.createIndex()
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
        if not self._metainfo['classes']:
            self._metainfo['classes'] = tuple(category['name'] for category in coco.dataset['categories'])
        return coco

    def filter_data(self) -> List[dict]:
        """Filter the images, and refuse a data set of which none is left, over which mmdet's sampler stumbles."""
        data_list = super().filter_data()
        if not data_list:
            boxes = sum(len(info['instances']) for info in self.data_list)
            raise UsageError(
                f'{self.ann_file!r} has no image to use: of {len(self.data_list)} images none is left, with {boxes} '
                f'boxes of the classes {self.metainfo["classes"]} in all. See that "category_id" and "image_id" of '
                'its annotations are the ids of its "categories" and "images", that the boxes lie in their images, '
                'and that filter_cfg of the data set in your config is not too strict.'
            )
        return data_list

    def prepare_data(self, idx: int) -> dict:
        """Run the pipeline on one image."""
        try:
            return super().prepare_data(idx)
        except FileNotFoundError as error:
            self._say_what_to_change(error)
        except Exception:
            check_image(self.get_data_info(idx)['img_path'], self.backend_args)
            raise  # the image can be read: it is something else

    def _say_what_to_change(self, error: FileNotFoundError) -> NoReturn:
        raise FileNotFoundError(
            f'{error}. The data set is looked for in data_root={self.data_root!r}, its annotations in '
            f'{self.ann_file!r}, its images in {self.data_prefix.get("img")!r}. Set the environment variable '
            'COCO_ROOT to the folder that holds annotations/, train2017/ and val2017/, or `data_root` in '
            'train_dataloader.dataset and val_dataloader.dataset (and val_evaluator.ann_file) of your config.'
        ) from error


def check_image(path: str, backend_args: Optional[dict] = None) -> None:
    """Raise a UsageError if OpenCV cannot read the file of an image."""
    try:
        readable = mmcv.imfrombytes(fileio.get(path, backend_args=backend_args)) is not None
    except Exception:  # OpenCV's own for an empty file
        readable = False
    if not readable:
        raise UsageError(
            f'{path!r} cannot be read as an image: it is damaged or of a format that OpenCV does not know. Replace it, '
            'or remove it and its boxes from the annotations.'
        )
