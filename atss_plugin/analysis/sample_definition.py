"""Sample definitions: which anchors an assigner makes positive, for any head of mmdet that uses an assigner.

Legend: N priors, B images, L levels, G ground truths.
"""

import ast
import inspect
import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmdet.models.task_modules import assigners as mmdet_assigners
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor

from atss_plugin.assigners import ATSSAssigner
from atss_plugin.errors import UsageError
from atss_plugin.heads.targets import MMDET_PREDICTIONS, takes_levels
from atss_plugin.heads.targets import needs_predictions as predictions_wanted
from atss_plugin.matching import Candidates
from atss_plugin.registry import TASK_UTILS

from .ground_truth import GroundTruth

# The paper's names of the sample definitions, and their classes.
NAMES = {
    'ATSS': 'ATSSAssigner',
    'IoU': 'IoUAssigner',
    'SSC': 'SpatialScaleAssigner',
    'CenterSampling': 'CenterSamplingAssigner',
    'TopKIoU': 'TopKIoUAssigner',
    'DDOD': 'DDODAssigner',
    'SimOTA': 'SimOTAAssigner',
    'TAL': 'TaskAlignedAssigner',
    'PAA': 'PAAAssigner',
    'RFLA': 'RFLAAssigner',
}
# mmdet's assigners that need more than priors, boxes and the predictions of a dense head.
UNDECIDABLE = (
    'ApproxMaxIoUAssigner',
    'GridAssigner',
    'HungarianAssigner',
    'MultiInstanceAssigner',
    'PointAssigner',
    'RegionAssigner',
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
        """Return the centres (N, 2) in pixels."""
        return (self.priors[:, :2] + self.priors[:, 2:]) / 2


@dataclass
class SampleDefinition:
    """An assigner and the priors that it chooses from.

    Attributes:
        label: its name in figures and tables.
        prior_generator: mmdet's prior generator.
        assigner: ours or mmdet's assigner.
        allowed_border: by how many pixels priors may leave the image, negative for any (``train_cfg`` of
            mmdet's heads).
        assigner_cfg: what the assigner was built from; if empty, k cannot be varied.
        predict: returns a model's predictions for an image, ``bboxes`` (N, 4) and ``scores`` (N, C), for assigners that
            decide by them.
    """

    label: str
    prior_generator: Any
    assigner: Any
    allowed_border: int = -1
    assigner_cfg: dict = field(default_factory=dict)
    predict: Optional[Callable[[GroundTruth], InstanceData]] = None

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
        return f'candidates found by atss_plugin.ATSSAssigner, {self.assigner.topk} anchors per level'

    @property
    def topk(self) -> Optional[int]:
        """Return k, None where the definition has none or does not use it."""
        cfg = self.assigner_cfg
        # center sampling within a radius looks at no k, and RFLA has one k for each of its stages
        k = getattr(self.assigner, 'topk', None) if cfg and cfg.get('radius') is None else None
        return k if isinstance(k, int) else None

    def with_topk(self, k: int) -> 'SampleDefinition':
        """Return the same definition with another k."""
        cfg = {**self.assigner_cfg, 'topk': k}
        return replace(self, assigner=TASK_UTILS.build(dict(cfg)), assigner_cfg=cfg)

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

    @property
    def needs_predictions(self) -> bool:
        """Whether the assigner decides by what a model predicts."""
        return needs_predictions(self.assigner)

    def assign(self, truths: Sequence[GroundTruth], predictions: Optional[Sequence[InstanceData]] = None) -> Tensor:
        """Assign the images of a batch.

        Args:
            truths: ground truths of B images of one padded shape.
            predictions: a model's predictions for each, as ``predict`` returns them; if None, ``predict`` is called.

        Returns:
            (B, N) int64: 0 background, -1 ignored, i + 1 for ground truth i of the image.

        Raises:
            UsageError: the assigner decides by predictions, and there are none or for other priors.
        """
        grid = self.grid(truths[0].pad_shape)
        predictions = self._predictions(truths, predictions, len(grid.priors))
        instances = [truth.instances() for truth in truths]
        ignored = [truth.ignored_instances() for truth in truths]
        ours = hasattr(self.assigner, 'assign_batch')
        if ours and self.allowed_border < 0:
            given = [instances_for(self.assigner, grid.priors, grid.priors[:, :2], item) for item in predictions]
            more = (given,) if self.needs_predictions else ()
            return self.assigner.assign_batch(grid.priors, grid.num_level_priors, instances, ignored, *more).gt_inds
        return torch.stack(
            [self._assign_image(grid, truth, *rest) for truth, *rest in zip(truths, instances, ignored, predictions)]
        )

    def _predictions(self, truths, predictions, num_priors: int) -> Sequence[Optional[InstanceData]]:
        if not self.needs_predictions:
            return [None] * len(truths)
        if predictions is None:
            if self.predict is None:
                raise UsageError(no_predictions(self.assigner))
            predictions = [self.predict(truth) for truth in truths]
        if any(len(item) != num_priors for item in predictions):
            raise UsageError(
                f'{self.label} chooses from {num_priors} anchors, the model predicts {len(predictions[0])} boxes: '
                'compare by predictions only what has the anchors of the config'
            )
        return predictions

    def _assign_image(
        self,
        grid: PriorGrid,
        truth: GroundTruth,
        instances: InstanceData,
        ignored: InstanceData,
        predictions: Optional[InstanceData],
    ) -> Tensor:
        """Assign one image as mmdet's heads do it: without the priors that leave the image too far."""
        kept = anchor_inside_flags(
            grid.priors, torch.ones(len(grid.priors), dtype=torch.bool), truth.img_shape, self.allowed_border
        )
        arguments = dict(gt_instances=instances, gt_instances_ignore=ignored)
        if takes_levels(self.assigner):
            arguments['num_level_priors'] = grid.level[kept].bincount(minlength=len(grid.num_level_priors)).tolist()
        strides = torch.tensor(self.prior_generator.strides)[grid.level]
        given = instances_for(self.assigner, grid.priors, strides, predictions)
        gt_inds = torch.zeros(len(grid.priors), dtype=torch.long)
        gt_inds[kept] = self.assigner.assign(given[kept], **arguments).gt_inds
        return gt_inds

    def candidates(self, pad_shape: Tuple[int, int], bboxes: Tensor) -> Optional[Candidates]:
        """Return the candidates of ground truths (G, 4) and their thresholds; None unless this is ATSS by boxes alone.

        mmdet's ATSSAssigner does not report its own: they are found by ours, with as many anchors per level.
        """
        chooser = self.assigner
        if self.needs_predictions:
            return None
        if isinstance(chooser, mmdet_assigners.ATSSAssigner):
            chooser = ATSSAssigner(topk=chooser.topk, anchors_per_location=1)
        if not isinstance(chooser, ATSSAssigner):
            return None
        grid = self.grid(pad_shape)
        return chooser.candidates(grid.priors, grid.num_level_priors, bboxes)


def definition_of_config(cfg: Config, label: Optional[str] = None, with_model: bool = False) -> SampleDefinition:
    """Return the sample definition of a config's dense head: ``bbox_head``, or ``rpn_head`` of two-stage detectors.

    Args:
        cfg: the config.
        label: added to the name, to tell configs apart.
        with_model: a model's predictions can be given.

    Raises:
        UsageError: the head has no assigner, or one that needs a model's predictions and there are none.
    """
    head, assigner_cfg = build_head(cfg)
    if getattr(head, 'assigner', None) is not None:
        name = describe(head.assigner, assigner_cfg)
        label = f'{name} [{label}]' if label else name
    return definition_of_head(head, label or '', with_model)


def definition_of_head(head: Any, label: str, with_model: bool = False) -> SampleDefinition:
    """Return the sample definition of a head that has been built.

    Raises:
        UsageError: as :func:`definition_of_config`.
    """
    if getattr(head, 'assigner', None) is None:
        raise UsageError(
            f'{type(head).__name__} has no assigner: it computes its targets by itself. '
            'Choose a config whose head has one (configs/table1/fcos.py is FCOS with an assigner)'
        )
    check_decidable(head.assigner, with_model)
    # our heads train on all priors, mmdet's on those within the allowed border
    ours = type(head).__module__.startswith('atss_plugin')
    border = -1 if ours else (head.train_cfg or {}).get('allowed_border', -1)
    return SampleDefinition(label, head.prior_generator, head.assigner, border, assigner_config(head.train_cfg))


def build_head(cfg: Config):
    """Return the dense head of a config, without backbone and weights, and its assigner's config."""
    model = cfg.model
    name = next((name for name in ('rpn_head', 'bbox_head') if isinstance(model.get(name), dict)), None)
    if name is None:
        raise UsageError('the config has neither a bbox_head nor an rpn_head')
    train_cfg = model.get('train_cfg') or {}
    train_cfg = train_cfg.get('rpn', {}) if name == 'rpn_head' and 'rpn' in train_cfg else train_cfg
    head_cfg = {**model[name], 'train_cfg': train_cfg, 'test_cfg': model.get('test_cfg')}
    if name == 'rpn_head':
        head_cfg['num_classes'] = 1
    return MODELS.build(head_cfg), assigner_config(train_cfg)


def assigner_config(train_cfg: Optional[dict]) -> dict:
    """Return the config of the assigner that a head starts with."""
    train_cfg = train_cfg or {}
    return train_cfg.get('initial_assigner') or train_cfg.get('assigner') or {}


def definition_of_name(text: str, prior_generator: Any, with_model: bool = False) -> SampleDefinition:
    """Return a named assigner on the priors of a generator.

    Args:
        text: a name from ``NAMES`` or a scoped type, with options if wanted: ``ATSS:topk=15``,
            ``mmdet.MaxIoUAssigner:pos_iou_thr=0.5,neg_iou_thr=0.4``.
        prior_generator: mmdet's prior generator.
        with_model: a model's predictions can be given.

    Raises:
        UsageError: an unknown name or option.
    """
    name, _, options = text.partition(':')
    cfg = dict(type=_scoped_type(name), **_parse_options(text, options))
    try:
        assigner = TASK_UTILS.build(cfg)
    except (TypeError, ValueError) as error:  # an option too many, one missing, or a value that makes no sense
        raise UsageError(f'--assigner {text}: {error}') from error
    check_decidable(assigner, with_model)
    return SampleDefinition(describe(assigner, cfg), prior_generator, assigner, assigner_cfg=cfg)


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
        if not isinstance(call, ast.Call) or call.args:
            raise UsageError('an option without a value')
        return {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise UsageError(f'--assigner {text}: write options as NAME:key=value,key=value') from error


def needs_predictions(assigner: Any) -> bool:
    """Return whether an assigner decides by what a model predicts."""
    by_cost = getattr(assigner, 'alpha', None) is not None  # DDOD's cost in mmdet's ATSSAssigner
    return predictions_wanted(assigner) or by_cost


def no_predictions(assigner: Any) -> str:
    """Return the message about an assigner that lacks the predictions that it needs, with what to do."""
    return (
        f'{type(assigner).__name__} decides by the predictions of a model: give a checkpoint of the config by '
        '--checkpoint FILE'
    )


def check_decidable(assigner: Any, with_model: bool = False) -> None:
    """Raise a UsageError if the assigner decides by more than it can be given.

    Args:
        assigner: the assigner.
        with_model: there are priors, boxes and a model's predictions; else only the first two.
    """
    name = type(assigner).__name__
    if name in UNDECIDABLE:
        raise UsageError(
            f'{name} decides by more than priors, boxes and the predictions of a dense head; what it does cannot be '
            'seen from them'
        )
    if needs_predictions(assigner) and not with_model:
        raise UsageError(no_predictions(assigner))


def instances_for(assigner: Any, priors: Tensor, strides: Tensor, predictions: Optional[InstanceData]) -> InstanceData:
    """Return what an assigner of mmdet expects to be given, in the form in which mmdet's heads give it.

    Args:
        assigner: the assigner.
        priors: (N, 4) anchors.
        strides: (N, 2) of their levels, x and y.
        predictions: ``bboxes`` (N, 4) and ``scores`` (N, C), probabilities; None where it needs none.
    """
    if predictions is None:
        return InstanceData(priors=priors)
    scores, logits = predictions.scores, predictions.scores.logit(eps=1e-6)
    if hasattr(assigner, 'assign_batch'):
        return InstanceData(priors=priors, bboxes=predictions.bboxes, scores=scores, logits=logits)
    by_cost = ('boxes', 'logits')  # DDOD's head leaves the sigmoid to mmdet's ATSSAssigner
    shape, kind = next((kinds for cls, kinds in MMDET_PREDICTIONS.items() if isinstance(assigner, cls)), by_cost)
    if shape == 'points':
        priors = torch.cat([(priors[:, :2] + priors[:, 2:]) / 2, strides.to(priors.dtype)], dim=1)
    return InstanceData(priors=priors, bboxes=predictions.bboxes, scores=logits if kind == 'logits' else scores)


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
        f'{key}={str(value["type"]).rsplit(".", 1)[-1] if isinstance(value, dict) and "type" in value else value}'
        for key, value in cfg.items()
        if key not in ('type', '_scope_') and defaults.get(key) != value
    ]
    return f'{name} ({", ".join(options)})' if options else name
