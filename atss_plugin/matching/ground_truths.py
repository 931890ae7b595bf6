"""The ground truths of a batch, all images in one.

Legend: G ground truths of all images together, N priors of an image, B images.
"""

from array import array
from typing import List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from .boxes import at_least_float32, from_host

# Coordinates in pixels whose sums and squares may leave float32's range.
ENORMOUS = 1e15


class GroundTruths(NamedTuple):
    """The ground truths of a batch, image after image, and where no prior may be positive.

    Attributes:
        boxes (Tensor): (G, 4) xyxy in pixels, float32 or float64.
        numbers_labels (Tensor): (2, G + 1) int64, their numbers within the image, from 1, and their labels; the last
            column is 0 and -1, no ground truth.
        row (Tensor): (G + 1,) 0 to G; the last one is not a ground truth.
        image (Tensor): (G,) the image of each.
        first_slot (Tensor): (G + 1,) image * N, where its image begins among the priors of all images; the last is B *
            N.
        counts (list[int]): how many each of the B images has.
        num_priors (int): N.
        ignored (Tensor, optional): (B * N,) bool, priors that may not be positive and are not background either.
    """

    boxes: Tensor
    numbers_labels: Tensor
    row: Tensor
    image: Tensor
    first_slot: Tensor
    counts: List[int]
    num_priors: int
    ignored: Optional[Tensor] = None

    @property
    def labels(self) -> Tensor:
        """(G,) int64."""
        return self.numbers_labels[1, :-1]

    @property
    def num_slots(self) -> int:
        """B * N."""
        return len(self.counts) * self.num_priors

    def check_priors(self, priors: Tensor) -> None:
        """Raise a ValueError if the ground truths were collected for another number of priors."""
        if len(priors) != self.num_priors:
            raise ValueError(
                f'the ground truths were collected for {self.num_priors} priors, but there are {len(priors)}: give '
                'collect() and find_pyramid() the same priors, those of this size of image'
            )


def collect(boxes: Sequence[Tensor], labels: Sequence[Tensor], priors: Tensor) -> GroundTruths:
    """Join the ground truths of all images.

    A box that is NaN, infinite or enormous becomes an empty one, for which no prior can be positive: raising an error
    would make the host wait for an accelerator.

    Args:
        boxes (sequence): (G, 4) tensors xyxy in pixels, one per image, computed with in float32 or better.
        labels (sequence): (G,) integer tensors, one per image.
        priors (Tensor): (N, 4) the priors that all images share.

    Raises:
        ValueError: boxes and labels of a different number of images, or of objects in an image; boxes of another
            shape, or on another device than the priors.
    """
    _check(boxes, labels, priors)
    counts = [len(box) for box in boxes]
    image = [i for i, count in enumerate(counts) for _ in range(count)]
    number = [n for count in counts for n in range(1, count + 1)]
    first_slot = [i * len(priors) for i in [*image, len(counts)]]
    size = len(image)
    numbers = array('q', [*image, *first_slot, *range(size + 1), *number, 0, -1])  # int64, quicker to copy than a list
    known = from_host(numbers, priors.device)
    image, first_slot, row, number, none = known.split([size, size + 1, size + 1, size + 1, 1])
    joined = at_least_float32(torch.cat(list(boxes)).detach() if counts else priors.new_zeros((0, 4)))
    largest = torch.linalg.vector_norm(joined, float('inf'), dim=1, keepdim=True)
    joined = torch.where(largest < ENORMOUS, joined, number[-1])  # which is 0
    numbers_labels = torch.cat([number, *(label.long() for label in labels), none]).view(2, size + 1)
    return GroundTruths(joined, numbers_labels, row, image, first_slot, counts, len(priors))


def _check(boxes: Sequence[Tensor], labels: Sequence[Tensor], priors: Tensor) -> None:
    """Raise the errors of :func:`collect`."""
    if len(boxes) != len(labels):
        raise ValueError(f'there are boxes of {len(boxes)} images, but labels of {len(labels)}')
    for i, (box, label) in enumerate(zip(boxes, labels)):
        if box.dim() != 2 or box.size(1) != 4:
            raise ValueError(f'the boxes of image {i} in the batch are not (G, 4) xyxy, but {tuple(box.shape)}')
        if len(label) != len(box):
            raise ValueError(f'image {i} in the batch has {len(box)} boxes but {len(label)} labels')
        if box.device != priors.device or label.device != priors.device:
            raise ValueError(
                f'image {i} in the batch has boxes on {box.device} and labels on {label.device}, but the priors '
                f'are on {priors.device}: move the ground truths there'
            )
