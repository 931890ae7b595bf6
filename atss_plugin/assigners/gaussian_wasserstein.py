"""NWD (https://arxiv.org/abs/2110.13389) as an IoU calculator of mmdet."""

from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

from .. import matching
from ..matching.boxes import at_least_float32
from ..matching.gaussian_wasserstein import AITOD_SIZE
from ..registry import TASK_UTILS


@TASK_UTILS.register_module()
class GaussianWasserstein:
    """The normalised Gaussian Wasserstein distance: :func:`atss_plugin.matching.gaussian_wasserstein`.

    It takes the place of IoU in every assigner that has an ``iou_calculator``, ours and mmdet's.

    Args:
        constant (float): C in pixels, about the size of the objects. Defaults to 12.8, that of AI-TOD.

    Raises:
        ValueError: ``constant`` <= 0.
    """

    def __init__(self, constant: float = AITOD_SIZE) -> None:
        if constant <= 0:
            raise ValueError(f'constant must be positive (in pixels, about the size of the objects), not {constant}')
        self.constant = constant

    def __call__(self, bboxes1: Tensor, bboxes2: Tensor, mode: str = 'iou', is_aligned: bool = False) -> Tensor:
        """Return how alike boxes are: (m, n) of boxes (m, 4) and (n, 4), or (m,) if they are aligned.

        Args:
            bboxes1 (Tensor): (m, 4 or more columns) xyxy in pixels.
            bboxes2 (Tensor): (n, 4 or more columns); n = m if aligned.
            mode (str): ``'iou'``; there is no intersection to be set against one of the boxes alone.
            is_aligned (bool): compare box i with box i.

        Raises:
            ValueError: another ``mode``.
        """
        if mode != 'iou':
            raise ValueError(f"GaussianWasserstein has no mode {mode!r}, only 'iou'")
        first, second = (at_least_float32(get_box_tensor(boxes)[:, :4]) for boxes in (bboxes1, bboxes2))
        first = first if is_aligned else first[:, None]
        return matching.gaussian_wasserstein(first, second, self.constant)
