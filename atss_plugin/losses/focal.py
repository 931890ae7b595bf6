"""Sigmoid focal loss in one pass.

Nearly all of the N x C logits are background, and their loss needs no target.  So the background's loss and gradient
are computed for everything at once, in place, and corrected at the few positive entries.

Legend: N priors (of all images), C classes, P positive entries.
"""

from typing import Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmdet.models.losses import FocalLoss as MMDetFocalLoss
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..compiling import uncompiled
from ..registry import MODELS

# Logits handled at a time: enough for several threads and to start operations rarely, few enough that three float32
# temporaries of this size stay in the cores' caches.
BLOCK = 1 << 17


@MODELS.register_module()
class FocalLoss(MMDetFocalLoss):
    """mmdet's ``FocalLoss`` (https://arxiv.org/abs/1708.02002), same arguments, value and gradient, faster on the
    CPU.

    On CUDA, and for what only mmdet's covers (targets that are one-hot, weights for each class, activated or reduced
    in another way), it is mmdet's.  Half precision is computed in float32, float64 in float64.
    """

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Optional[Tensor] = None,
        avg_factor: Optional[Tensor] = None,
        reduction_override: Optional[str] = None,
    ) -> Tensor:
        """Return the focal loss of logits (N, C) with target classes (N,), C for background.

        Args:
            pred (Tensor): (N, C) logits.
            target (Tensor): (N,) int64 in [0, C].
            weight (Tensor, optional): (N,) weight of each prior.
            avg_factor (Tensor | float, optional): what the sum is divided by; N * C if None.
            reduction_override (str, optional): 'none', 'mean' or 'sum'.

        Raises:
            RuntimeError: as mmdet's, for labels that are not int64, are outside [0, C], or are not one per
                row. On an accelerator their values are not checked, since the host would have to wait for them.
        """
        reduction = reduction_override or self.reduction
        summed = reduction == 'sum' and avg_factor is None or reduction == 'mean'
        plain = target.dim() == 1 and pred.dim() == 2 and not self.activated
        if pred.device.type == 'cpu' and plain:
            _check_labels(target, *pred.shape)
        if pred.device.type != 'cpu' or not (summed and plain and (weight is None or weight.shape == target.shape)):
            return super().forward(pred, target, weight, avg_factor, reduction_override)
        logits = pred if pred.dtype == torch.float64 else pred.float()
        total = _one_pass(logits, target, weight, self.gamma, self.alpha)
        if reduction == 'mean':
            # mmdet adds the smallest float to the divisor it is given
            total = total / (pred.numel() if avg_factor is None else avg_factor + torch.finfo(torch.float32).eps)
        return self.loss_weight * total


@uncompiled  # looks at values
def _check_labels(target: Tensor, num_rows: int, num_classes: int) -> None:
    """Raise the errors of mmdet's loss, with what may be wrong."""
    if len(target) != num_rows:
        raise RuntimeError(f'{len(target)} labels for {num_rows} rows of logits: give one label for each row')
    if target.dtype != torch.int64:
        raise RuntimeError(f'labels must be int64, not {target.dtype}')
    lowest, highest = (int(limit) for limit in target.aminmax()) if num_rows else (0, 0)
    if lowest < 0 or highest > num_classes:
        raise RuntimeError(
            f'the labels go from {lowest} to {highest}, but {num_classes} classes have the labels 0 to '
            f'{num_classes - 1}, and background is {num_classes}: check that num_classes of the head is the number of '
            'classes of the data set'
        )


class OnePassFocal(torch.autograd.Function):
    """Sum of the sigmoid focal loss of (N, C) logits, float32 or float64; value and gradient are computed together."""

    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor, weight: Optional[Tensor], gamma: float, alpha: float) -> Tensor:
        needs_grad = ctx.needs_input_grad[0]
        grad = torch.empty_like(logits, memory_format=torch.contiguous_format) if needs_grad else None
        total = logits.new_zeros(())
        rows = max(1, BLOCK // max(logits.size(1), 1))
        weights: Sequence[Optional[Tensor]] = (
            [None] * -(-len(logits) // rows) if weight is None else weight.to(logits.dtype).split(rows)
        )
        for i, (x, w) in enumerate(zip(logits.split(rows), weights)):
            part = None if grad is None else grad[i * rows : i * rows + len(x)]
            total += _background(x, w, gamma, 1 - alpha, part)
        row = (target < logits.size(1)).nonzero().squeeze(1)
        column = target[row]
        x = logits[row, column]
        factor = 1.0 if weight is None else weight[row].to(logits.dtype)
        positive, positive_grad = _focal_terms(-x, gamma, alpha)
        background, _ = _focal_terms(x, gamma, 1 - alpha)
        total += (factor * (positive - background)).sum()
        if grad is not None:
            # d/dx of the positive term, a function of -x, has the opposite sign; it replaces the background's, since
            # adding the difference would leave the background's rounding errors
            grad[row, column] = -factor * positive_grad
            ctx.save_for_backward(grad)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> Tuple[Optional[Tensor], ...]:
        return ctx.saved_tensors[0] * grad_output, None, None, None, None


@uncompiled  # torch 2.4 traces the forward as if autograd were to differentiate it, and fails
def _one_pass(*args) -> Tensor:
    return OnePassFocal.apply(*args)


def _focal_terms(x: Tensor, gamma: float, weight: float) -> Tuple[Tensor, Tensor]:
    """Return the loss of a background logit x and its derivative.

    The loss is ``weight * p^gamma * -log(1 - p)`` for p = sigmoid(x).
    """
    p, loss = x.sigmoid(), F.softplus(x)  # softplus(x) = -log(1 - p)
    factor = weight * p**gamma
    return factor * loss, factor * (gamma * (1 - p) * loss + p)


def _background(x: Tensor, row_weight: Optional[Tensor], gamma: float, weight: float, grad: Optional[Tensor]) -> Tensor:
    """Return the sum of :func:`_focal_terms` of logits (n, C), in few passes; derivatives go into ``grad``."""
    p, loss = x.sigmoid(), F.softplus(x)
    factor = p.square() if gamma == 2 else p**gamma
    factor *= weight
    if row_weight is not None:
        factor *= row_weight[:, None]
    if grad is not None:
        torch.sub(1, p, out=grad)
        grad.mul_(loss).mul_(gamma).add_(p).mul_(factor)
    return loss.mul_(factor).sum()
