"""Sample definitions: which anchors an assigner makes positive, for any head of mmdet that has one.

Legend: N priors, B images, L levels, G ground truths.
"""

import ast
import inspect
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmdet.models.task_modules import assigners as mmdet_assigners
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor

from atss_plugin.assigners import ATSSAssigner, Candidates
from atss_plugin.errors import UsageError
from atss_plugin.registry import TASK_UTILS

from .ground_truth import GroundTruth

# The paper's names of the sample definitions, and their classes.
NAMES = {
    'ATSS': 'ATSSAssigner',
    'IoU': 'IoUAssigner',
    'SSC': 'SpatialScaleAssigner',
    'CenterSampling': 'CenterSamplingAssigner',
    'TopKIoU': 'TopKIoUAssigner',
}
# mmdet's assigners that decide by what a model predicts, or by more than priors and boxes.
UNDECIDABLE = (
    'ApproxMaxIoUAssigner',
    'DynamicSoftLabelAssigner',
    'GridAssigner',
    'HungarianAssigner',
    'MultiInstanceAssigner',
    'PointAssigner',
    'RegionAssigner',
    'SimOTAAssigner',
    'TaskAlignedAssigner',
    'TopkHungarianAssigner',
    'UniformAssigner',
)


class PriorGrid(NamedTuple):
    """The priors of one input shape.

    Attributes:
        priors: (N, 4) xyxy in pixels, level by level.
        num_level_priors: the number of each level, L.
        level: (N,) the level of each prior.
    """

    priors: Tensor
    num_level_priors: List[int]
    level: Tensor

    def centers(self) -> Tensor:
        """(N, 2) the centres, in pixels."""
        return (self.priors[:, :2] + self.priors[:, 2:]) / 2


@dataclass
class SampleDefinition:
    """An assigner and the priors that it chooses from.

    Attributes:
        label: how figures and tables call it.
        prior_generator: mmdet's prior generator.
        assigner: ours or mmdet's assigner.
        allowed_border: by how many pixels priors may leave the image, negative for any (``train_cfg`` of
            mmdet's heads).
    """

    label: str
    prior_generator: Any
    assigner: Any
    allowed_border: int = -1

    def __post_init__(self) -> None:
        self.grid = lru_cache(maxsize=64)(self._grid)

    @property
    def levels(self) -> List[str]:
        """Names of the levels: P3 has stride 8."""
        strides = [stride[0] for stride in self.prior_generator.strides]
        return [f'P{int(math.log2(s))}' if math.log2(s).is_integer() else f'stride {s}' for s in strides]

    @property
    def note(self) -> str:
        """What a reader of the candidates has to know."""
        if not isinstance(self.assigner, mmdet_assigners.ATSSAssigner):
            return ''
        return f'candidates found by atss_plugin.ATSSAssigner, {self.assigner.topk} anchors a level'

    def _grid(self, pad_shape: Tuple[int, int]) -> PriorGrid:
        sizes = [
            (math.ceil(pad_shape[0] / stride[1]), math.ceil(pad_shape[1] / stride[0]))
            for stride in self.prior_generator.strides
        ]
        levels = self.prior_generator.grid_priors(sizes, device='cpu')
        if levels[0].size(-1) != 4:
            raise UsageError(
                f'{type(self.prior_generator).__name__} gives points without a size; an assigner of '
                'anchors needs an AnchorGenerator in the head'
            )
        counts = [len(level) for level in levels]
        return PriorGrid(torch.cat(levels), counts, torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)))

    def assign(self, truths: Sequence[GroundTruth]) -> Tensor:
        """Assign the images of a batch.

        Args:
            truths: ground truths of B images of one padded shape.

        Returns:
            (B, N) int64: 0 background, -1 ignored, i + 1 for ground truth i of the image.
        """
        grid = self.grid(truths[0].pad_shape)
        instances = [truth.instances() for truth in truths]
        ignored = [truth.ignored_instances() for truth in truths]
        if hasattr(self.assigner, 'assign_batch') and self.allowed_border < 0:
            return self.assigner.assign_batch(grid.priors, grid.num_level_priors, instances, ignored).gt_inds
        return torch.stack(
            [self._assign_image(grid, truth.img_shape, *pair) for truth, *pair in zip(truths, instances, ignored)]
        )

    def _assign_image(
        self, grid: PriorGrid, img_shape: Tuple[int, int], instances: InstanceData, ignored: InstanceData
    ) -> Tensor:
        """As mmdet's heads do it: priors that leave the image too far take no part."""
        kept = anchor_inside_flags(
            grid.priors, torch.ones(len(grid.priors), dtype=torch.bool), img_shape, self.allowed_border
        )
        arguments = dict(gt_instances=instances, gt_instances_ignore=ignored)
        if 'num_level_priors' in inspect.signature(self.assigner.assign).parameters:
            arguments['num_level_priors'] = grid.level[kept].bincount(minlength=len(grid.num_level_priors)).tolist()
        gt_inds = torch.zeros(len(grid.priors), dtype=torch.long)
        gt_inds[kept] = self.assigner.assign(InstanceData(priors=grid.priors[kept]), **arguments).gt_inds
        return gt_inds

    def candidates(self, pad_shape: Tuple[int, int], bboxes: Tensor) -> Optional[Candidates]:
        """Return the candidates of ground truths (G, 4) and their thresholds; None unless this is ATSS.

        mmdet's ATSSAssigner does not tell its own: they are those of ours with as many anchors a level.
        """
        chooser = self.assigner
        if isinstance(chooser, mmdet_assigners.ATSSAssigner):
            chooser = ATSSAssigner(topk=chooser.topk, anchors_per_location=1)
        if not isinstance(chooser, ATSSAssigner):
            return None
        grid = self.grid(pad_shape)
        return chooser.candidates(grid.priors, grid.num_level_priors, bboxes)


def definition_of_config(cfg: Config, label: Optional[str] = None) -> SampleDefinition:
    """Return the sample definition of a config's dense head: ``bbox_head``, or ``rpn_head`` of two-stage detectors.

    Args:
        cfg: the config.
        label: is added to the name, to tell configs apart.

    Raises:
        UsageError: the head has no assigner, or one that needs a model's predictions.
    """
    head, assigner_cfg = build_head(cfg)
    if getattr(head, 'assigner', None) is not None:
        name = describe(head.assigner, assigner_cfg)
        label = f'{name} [{label}]' if label else name
    return definition_of_head(head, label or '')


def definition_of_head(head: Any, label: str) -> SampleDefinition:
    """Return the sample definition of a head that is built.

    Raises:
        UsageError: as :func:`definition_of_config`.
    """
    if getattr(head, 'assigner', None) is None:
        raise UsageError(
            f'{type(head).__name__} has no assigner: it computes its targets by itself. '
            'Choose a config whose head has one (configs/table1/fcos.py is FCOS with an assigner)'
        )
    check_decidable(head.assigner)
    # our heads train on all priors, mmdet's on those within the allowed border
    ours = type(head).__module__.startswith('atss_plugin')
    border = -1 if ours else (head.train_cfg or {}).get('allowed_border', -1)
    return SampleDefinition(label, head.prior_generator, head.assigner, border)


def build_head(cfg: Config):
    """Return the dense head of a config, without backbone and weights, and its assigner's config."""
    model = cfg.model
    name = next((name for name in ('rpn_head', 'bbox_head') if isinstance(model.get(name), dict)), None)
    if name is None:
        raise UsageError('the config has neither a bbox_head nor a rpn_head')
    train_cfg = model.get('train_cfg') or {}
    train_cfg = train_cfg.get('rpn', {}) if name == 'rpn_head' and 'rpn' in train_cfg else train_cfg
    head_cfg = {**model[name], 'train_cfg': train_cfg, 'test_cfg': model.get('test_cfg')}
    if name == 'rpn_head':
        head_cfg['num_classes'] = 1
    assigner_cfg = train_cfg.get('initial_assigner') or train_cfg.get('assigner') or {}
    return MODELS.build(head_cfg), assigner_cfg


def definition_of_name(text: str, prior_generator: Any) -> SampleDefinition:
    """Return a named assigner on the priors of a generator.

    Args:
        text: a name of ``NAMES`` or a scoped type, with options if wanted: ``ATSS:topk=15``,
            ``mmdet.MaxIoUAssigner:pos_iou_thr=0.5,neg_iou_thr=0.4``.
        prior_generator: mmdet's prior generator.

    Raises:
        UsageError: an unknown name or option.
    """
    name, _, options = text.partition(':')
    cfg = dict(type=_scoped_type(name), **_parse_options(text, options))
    try:
        assigner = TASK_UTILS.build(cfg)
    except (TypeError, ValueError) as error:  # an option too many, one missing, or a value that makes no sense
        raise UsageError(f'--assigner {text}: {error}') from error
    check_decidable(assigner)
    return SampleDefinition(describe(assigner, cfg), prior_generator, assigner)


def _scoped_type(name: str) -> str:
    names = {short.lower(): f'atss_plugin.{cls}' for short, cls in NAMES.items()}
    if name.lower() in names:
        return names[name.lower()]
    if '.' in name and TASK_UTILS.get(name) is not None:
        return name
    raise UsageError(
        f'no assigner {name!r}: give one of {", ".join(NAMES)}, a type with its scope such as '
        'mmdet.ATSSAssigner, or the path of a config'
    )


def _parse_options(text: str, options: str) -> dict:
    try:
        call = ast.parse(f'f({options})', mode='eval').body
        if call.args:
            raise UsageError('an option without a value')
        return {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise UsageError(f'--assigner {text}: write options as NAME:key=value,key=value') from error


def check_decidable(assigner: Any) -> None:
    """Raise a UsageError if the assigner decides by more than priors and boxes."""
    name = type(assigner).__name__
    if name in UNDECIDABLE or getattr(assigner, 'alpha', None) is not None:
        raise UsageError(
            f'{name} decides by the predictions of a model; what it does cannot be seen from priors and boxes alone'
        )


def describe(assigner: Any, cfg: dict) -> str:
    """Return a short name: the paper's, and the options that differ from the defaults of the class."""
    cls = type(assigner)
    short = next(
        (short for short, name in NAMES.items() if name == cls.__name__ and cls.__module__.startswith('atss_plugin')),
        None,
    )
    name = short or f'mmdet {cls.__name__.replace("Assigner", "")}'
    defaults = {key: value.default for key, value in inspect.signature(cls.__init__).parameters.items()}
    options = [
        f'{key}={value}'
        for key, value in cfg.items()
        if key not in ('type', '_scope_') and not isinstance(value, dict) and defaults.get(key) != value
    ]
    return f'{name} ({", ".join(options)})' if options else name
