"""NWD: how alike two boxes are as Gaussians, whether they overlap or not (https://arxiv.org/abs/2110.13389).

Shapes broadcast.
"""

import torch
from torch import Tensor

from .boxes import centers, has_area

# The average absolute size of an object of AI-TOD in pixels, which the paper takes for C (section 3.2).
AITOD_SIZE = 12.8


def gaussian_wasserstein(boxes: Tensor, priors: Tensor, constant: float = AITOD_SIZE) -> Tensor:
    """Return NWD, exp(-sqrt(W2^2) / C): a similarity in spite of its name, 1 for equal boxes: (...).

    A box (cx, cy, w, h) is the Gaussian of mean (cx, cy) and covariance diag(w^2 / 4, h^2 / 4).  Between two of them
    W2^2 is the squared distance of the vectors (cx, cy, w / 2, h / 2).

    Args:
        boxes, priors (Tensor): (..., 4) xyxy in pixels.
        constant (float): C in pixels, about the size of the objects.
    """
    distance = (centers(boxes) - centers(priors)).square().sum(-1)
    extent = ((boxes[..., 2:] - boxes[..., :2]) - (priors[..., 2:] - priors[..., :2])).square().sum(-1) / 4
    # as with IoU, nothing is like a box of no area
    return torch.where(has_area(boxes) & has_area(priors), torch.exp(-(distance + extent).sqrt() / constant), 0.0)
