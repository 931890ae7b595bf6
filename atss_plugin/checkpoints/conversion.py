"""The authors' tensors as those of our models in ``configs/official``: pure functions on dictionaries.

What changes between the two:

- names: see ``_RULES``.
- frozen batch norm: the authors divide by sqrt(var), mmdet's ``BN`` by sqrt(var + eps); the weight is
  scaled so that the outputs are equal.
- the learnable scalar of a level: shape (1,) with the authors, () in mmcv's ``Scale``.

Deformable convs only change their names: mmcv's ``conv_offset`` has 27 channels, the y and x offset of each
of the 9 kernel cells in turn (18), then the 9 modulations before their sigmoid. The authors' ``offset`` conv
has as many in the same order (docs/recipe.md, "Table 8"). No reference output of a deformable network is at hand.
"""

import re
from typing import Dict, List, Mapping

import torch
from torch import Tensor

from atss_plugin.errors import UsageError

from .authors_model import AUTHORS_MODELS, AuthorsModel, Shapes

Tensors = Dict[str, Tensor]

# torch's default, which mmdet's ``BN`` keeps.
BATCH_NORM_EPS = 1e-5
# How many names of tensors an error lists.
_MAX_LISTED = 8
_OUTPUTS = dict(cls_logits='atss_cls', bbox_pred='atss_reg', centerness='atss_centerness')


class CheckpointError(UsageError):
    """A checkpoint that cannot be converted; the message says why and names the tensors."""


def _tower(match) -> str:
    """Return our name of a tensor of a tower: theirs is flat (conv, group norm, ReLU), ours a list of triples."""
    tower = dict(cls='cls_convs', bbox='reg_convs')[match['tower']]
    index, part = divmod(int(match['index']), 3)
    return f'bbox_head.{tower}.{index}.{("conv", "gn")[part]}.{match["rest"]}'


_RULES = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (r'backbone\.body\.(?:stem\.)?(?P<rest>.+)', lambda match: f'backbone.{match["rest"]}'),
        (
            r'backbone\.fpn\.fpn_inner(?P<stage>[234])\.(?P<rest>.+)',
            lambda match: f'neck.lateral_convs.{int(match["stage"]) - 2}.conv.{match["rest"]}',
        ),
        (
            r'backbone\.fpn\.(?:fpn_layer(?=[234])|top_blocks\.p(?=[67]))(?P<number>\d)\.(?P<rest>.+)',
            lambda match: f'neck.fpn_convs.{"23467".index(match["number"])}.conv.{match["rest"]}',
        ),
        (r'rpn\.head\.(?P<tower>cls|bbox)_tower\.(?P<index>0|1|3|4|6|7|9|10)\.(?P<rest>.+)', _tower),
        (
            r'rpn\.head\.(?P<output>cls_logits|bbox_pred|centerness)\.(?P<rest>.+)',
            lambda match: f'bbox_head.{_OUTPUTS[match["output"]]}.{match["rest"]}',
        ),
        (r'rpn\.head\.scales\.(?P<rest>.+)', lambda match: f'bbox_head.scales.{match["rest"]}'),
    )
)


def rename(name: str) -> str:
    """Return our name of the tensor that the authors call ``name``.

    Raises:
        CheckpointError: No tensor of the authors' models is called so.
    """
    # A deformable conv: ``conv2.offset`` and ``conv2.conv`` (``cls_tower.9.offset``, ``cls_tower.9.conv``).
    plain = re.sub(r'\.offset\.(weight|bias)$', r'.conv_offset.\1', name)
    plain = re.sub(r'(conv2|tower\.9)\.conv\.(weight|bias)$', r'\1.\2', plain)
    for pattern, rule in _RULES:
        match = pattern.fullmatch(plain)
        if match:
            return rule(match)
    raise CheckpointError(f'{name} has no counterpart in our models')


def identify(tensors: Mapping[str, Tensor]) -> AuthorsModel:
    """Return which of the authors' eight networks the tensors belong to.

    Args:
        tensors: By the authors' name, without the buffers of the anchor generator.

    Raises:
        CheckpointError: It is none of them; the message compares it with the nearest.
    """
    shapes = {_known(name): () if name.endswith('.scale') else tuple(tensor.shape) for name, tensor in tensors.items()}
    nearest = max(AUTHORS_MODELS, key=lambda model: len(shapes.items() & model.shapes().items()))
    differences = compare(shapes, nearest.shapes())
    if differences:
        raise CheckpointError(
            f"none of the authors' eight checkpoints; compared by our names with {nearest.name}, the nearest of them: "
            + '; '.join(differences)
        )
    return nearest


def _known(name: str) -> str:
    """Return our name of a tensor, or its own where it is not one of the authors'."""
    try:
        return rename(name)
    except CheckpointError:
        return name


def compare(shapes: Shapes, expected: Shapes) -> List[str]:
    """Return what is missing, unexpected and of another shape, one phrase each; nothing if they are equal."""
    missing = [name for name in expected if name not in shapes]
    unexpected = [name for name in shapes if name not in expected]
    misshapen = [
        f'{name} {shapes[name]} instead of {expected[name]}'
        for name in expected
        if name in shapes and shapes[name] != expected[name]
    ]
    kinds = ((missing, 'missing'), (unexpected, 'unexpected'), (misshapen, 'of another shape'))
    return [f'{len(names)} {kind}: {_listed(names)}' for names, kind in kinds if names]


def _listed(names: List[str]) -> str:
    return ', '.join(names[:_MAX_LISTED]) + (', ...' if len(names) > _MAX_LISTED else '')


def convert_tensors(tensors: Mapping[str, Tensor]) -> Tensors:
    """Return the state dict of our model from the authors' tensors.

    Args:
        tensors: By the authors' name, without the buffers of the anchor generator; see ``identify``.

    Returns:
        By our name; float32. Without ``num_batches_tracked``, which nothing reads in a frozen batch norm.

    Raises:
        CheckpointError: A name is not the authors', a value is not finite, or a variance is not positive.
    """
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    broken += [name for name in tensors if name.endswith('running_var') and (tensors[name] <= 0).any()]
    if broken:
        raise CheckpointError('values that are not finite, or variances that are not positive, in ' + _listed(broken))
    converted = {}
    for name, tensor in tensors.items():
        variance = tensors.get(re.sub('weight$', 'running_var', name))
        if name.endswith('weight') and variance is not None:
            tensor = fold_eps(tensor, variance)
        if name.endswith('.scale'):
            tensor = tensor.reshape(())
        converted[rename(name)] = tensor.float()
    return converted


def fold_eps(weight: Tensor, variance: Tensor, eps: float = BATCH_NORM_EPS) -> Tensor:
    """Return the batch norm weight that gives with ``eps`` what ``weight`` gives without.

    weight / sqrt(variance) = folded / sqrt(variance + eps). The variance is kept: lowering it by eps instead
    would turn variances below eps negative.

    Args:
        weight: (C,).
        variance: (C,), positive.
        eps: Of the batch norm that will use the result.

    Returns:
        (C,), of the dtype of ``weight``.
    """
    return (weight.double() * (1 + eps / variance.double()).sqrt()).to(weight.dtype)
