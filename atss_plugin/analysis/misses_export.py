"""Objects and detections in COCO's form, for browsing them one by one in tools that read it."""

from typing import List, Sequence

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmengine.structures import InstanceData


def coco_objects(dataset: BaseDetDataset, indices: Sequence[int], records: Sequence[dict]) -> dict:
    """Return the ground truths as a COCO json, each with what is known of it.

    Args:
        dataset: the data set.
        indices: the images.
        records: those of :meth:`Misses.records`, which become further fields of the annotations; crowd regions have
            none.
    """
    by_object = {(record['image'], record['object']): record for record in records}
    images: List[dict] = []
    annotations: List[dict] = []
    for index in indices:
        info = dataset.get_data_info(index)
        images.append(
            dict(
                id=info['img_id'],
                file_name=info['img_path'].rsplit('/', 1)[-1],
                height=info['height'],
                width=info['width'],
            )
        )
        number = 0
        for instance in info['instances']:
            x1, y1, x2, y2 = map(float, instance['bbox'])
            crowd = int(bool(instance['ignore_flag']))
            annotation = dict(
                id=len(annotations) + 1,
                image_id=info['img_id'],
                category_id=category_ids(dataset)[instance['bbox_label']],
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=(x2 - x1) * (y2 - y1),
                iscrowd=crowd,
            )
            if not crowd:
                annotation.update(by_object[index, number])
                number += 1
            annotations.append(annotation)
    categories = [dict(id=i, name=name) for i, name in zip(category_ids(dataset), dataset.metainfo['classes'])]
    return dict(images=images, annotations=annotations, categories=categories)


def coco_detections(dataset: BaseDetDataset, index: int, detections: InstanceData) -> List[dict]:
    """Return the detections on an image in the form of COCO's results."""
    image, ids = dataset.get_data_info(index)['img_id'], category_ids(dataset)
    boxes = detections.bboxes.numpy().astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    return [
        dict(image_id=image, category_id=ids[label], bbox=box, score=round(score, 5))
        for label, box, score in zip(
            detections.labels.tolist(), np.round(boxes, 2).tolist(), detections.scores.tolist()
        )
    ]


def category_ids(dataset: BaseDetDataset) -> List[int]:
    """Return the ids of the classes: those of the annotation file where there is one, else from 1."""
    return list(getattr(dataset, 'cat_ids', None) or range(1, len(dataset.metainfo['classes']) + 1))
