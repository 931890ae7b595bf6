"""The one detector head behind all rows of the paper's tables.

Legend: B images, L levels, A anchors per location, C classes, N priors of an image, P priors that the box losses visit.
"""

from collections import OrderedDict
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmcv.cnn import ConvModule, Scale
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.registry import TASK_UTILS as MMDET_TASK_UTILS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptInstanceList, OptMultiConfig, reduce_mean
from mmengine.model import BaseModule, PretrainedInit
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..registry import MODELS
from .checks import check_assigner, check_box_loss, check_levels, check_train_cfg
from .targets import assign_images, box_loss_rows, centerness_targets, needs_predictions, predict_all

# The numbers of docs/recipe.md, "Anchors", "Head" and "Initial weights"
ONE_SQUARE_ANCHOR = dict(
    type='mmdet.AnchorGenerator',
    ratios=[1.0],
    octave_base_scale=8,
    scales_per_octave=1,
    center_offset=0.5,
    strides=[8, 16, 32, 64, 128],
)
FOCAL_LOSS = dict(type='atss_plugin.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0)
INITIAL_WEIGHTS = dict(
    type='Normal',
    layer='Conv2d',  # not ModulatedDeformConv2d, which keeps its own start; the convolution of its offsets is a Conv2d
    std=0.01,
    override=dict(type='Normal', name='atss_cls', std=0.01, bias_prob=0.01),
)


class Outputs(NamedTuple):
    """The head's outputs, all levels after each other, in float32: (B, N, C), (B, N, 4), and (B, N) or None."""

    logits: Tensor
    deltas: Tensor
    centerness: Optional[Tensor]


@MODELS.register_module()
class OneStageHead(BaseDenseHead):
    """Two towers, three outputs and every improvement of Table 1; what is positive and where boxes start is injected.

    "Improved RetinaNet (#A=1)" with all five ticks is the default.  The assigner (``train_cfg.assigner``) defines the
    samples and the coder (``bbox_coder``) where the regression starts; the head knows neither.  Parameters are named
    as in mmdet's ATSSHead.

    Args:
        num_classes (int): C.
        in_channels (int): channels of the feature maps.
        bbox_coder (dict): mmdet's ``DeltaXYWHBBoxCoder`` (box) or ``atss_plugin.AnchorPointCoder`` (point).
        anchor_generator (dict): by default one square of 8 strides, centred at ((i + 0.5) S, (j + 0.5) S), on P3 to
            P7.
        feat_channels (int): channels of the towers.
        stacked_convs (int): convolutions of each tower.
        norm_cfg (dict, optional): "GroupNorm"; None if not ticked.
        conv_bias (bool): bias in the towers. True is the paper's; mmdet's have none under GroupNorm.
        dcn_on_last_conv (bool): the last convolution of both towers is a modulated deformable one (Table 8).
        with_scale (bool): "Scalar": a learnable factor for the regression of each level.
        reg_decoded_bbox (bool): the box loss compares decoded boxes (IoU losses), else encoded targets (smooth L1).
        count_images (bool): divide the classification loss by positives + images instead of positives, as plain
            RetinaNet does.
        average_over_processes (bool): in a distributed run, divide the losses by means over all processes. False
            divides each process's by its own positives (and images), as plain RetinaNet does.
        loss_cls (dict): focal loss.
        loss_bbox (dict): "GIoU"; without it smooth L1 (and ``reg_decoded_bbox=False``). Not reduced by itself.
        loss_centerness (dict, optional): "Centerness"; None if not ticked.
        train_cfg (dict): ``assigner``.
        test_cfg (dict): ``score_thr``, ``nms_pre``, ``nms``, ``max_per_img``, ``min_bbox_size``.
        init_cfg (dict): N(0, 0.01), and the classification's bias at a probability of 0.01; the weights of deformable
            convolutions keep their operator's start.

    Raises:
        ValueError: a coder for a single anchor with an anchor generator of several, or levels of different A.
        UsageError: ``loss_bbox`` does not fit ``reg_decoded_bbox``, ``train_cfg`` asks for what this head does not do,
            or, when it is trained, there is no assigner.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        bbox_coder: ConfigType,
        anchor_generator: ConfigType = ONE_SQUARE_ANCHOR,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        norm_cfg: OptConfigType = dict(type='GN', num_groups=32, requires_grad=True),
        conv_bias: bool = True,
        dcn_on_last_conv: bool = False,
        with_scale: bool = True,
        reg_decoded_bbox: bool = True,
        count_images: bool = False,
        average_over_processes: bool = True,
        loss_cls: ConfigType = FOCAL_LOSS,
        loss_bbox: ConfigType = dict(type='mmdet.GIoULoss', loss_weight=2.0),
        loss_centerness: OptConfigType = dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = INITIAL_WEIGHTS,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes = num_classes
        self.cls_out_channels = num_classes  # sigmoid: no channel for the background
        self.in_channels = in_channels
        self.feat_channels = feat_channels
        self.stacked_convs = stacked_convs
        self.norm_cfg = norm_cfg
        self.conv_bias = conv_bias
        self.dcn_on_last_conv = dcn_on_last_conv
        self.reg_decoded_bbox = reg_decoded_bbox
        self.count_images = count_images
        self.average_over_processes = average_over_processes
        self.prior_generator = MMDET_TASK_UTILS.build(anchor_generator)
        self.bbox_coder = MMDET_TASK_UTILS.build(bbox_coder)
        self.num_base_priors = self._check_anchors()
        self.loss_cls = MMDET_MODELS.build(loss_cls)
        self.loss_bbox = MMDET_MODELS.build(loss_bbox)
        self.loss_centerness = None if loss_centerness is None else MMDET_MODELS.build(loss_centerness)
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        check_box_loss(self.loss_bbox, reg_decoded_bbox)
        check_train_cfg(train_cfg)
        assigner = (train_cfg or {}).get('assigner')  # absent where a model only predicts
        self.assigner = None if assigner is None else MMDET_TASK_UTILS.build(assigner)
        self._priors = OrderedDict()
        self._init_layers(with_scale)

    def _check_anchors(self) -> int:
        """Return A, if the anchor generator and the coder go together."""
        anchors = set(self.prior_generator.num_base_priors)
        if len(anchors) != 1:
            raise ValueError(
                f'anchor_generator gives {self.prior_generator.num_base_priors} anchors per location on its '
                'levels; this head shares its convolutions between them and needs the same on all'
            )
        anchors = anchors.pop()
        if anchors > 1 and getattr(self.bbox_coder, 'single_anchor', False):
            raise ValueError(
                f'{type(self.bbox_coder).__name__} starts from the point of a location, but '
                f'anchor_generator puts {anchors} anchors there, which would all regress the same: use '
                'one scale and one ratio, or DeltaXYWHBBoxCoder'
            )
        return anchors

    def _init_layers(self, with_scale: bool) -> None:
        self.cls_convs, self.reg_convs = self._tower(), self._tower()
        anchors = self.num_base_priors
        self.atss_cls = nn.Conv2d(self.feat_channels, anchors * self.num_classes, 3, padding=1)
        self.atss_reg = nn.Conv2d(self.feat_channels, anchors * 4, 3, padding=1)
        self.atss_centerness = nn.Conv2d(self.feat_channels, anchors, 3, padding=1) if self.loss_centerness else None
        num_levels = len(self.prior_generator.strides)
        self.scales = nn.ModuleList(Scale(1.0) for _ in range(num_levels)) if with_scale else None

    def _tower(self) -> nn.ModuleList:
        convs = nn.ModuleList()
        for i in range(self.stacked_convs):
            deformable = self.dcn_on_last_conv and i == self.stacked_convs - 1
            convs.append(
                ConvModule(
                    self.feat_channels if i else self.in_channels,
                    self.feat_channels,
                    3,
                    padding=1,
                    conv_cfg=dict(type='DCNv2') if deformable else None,
                    norm_cfg=self.norm_cfg,
                    bias=self.conv_bias,
                )
            )
        return convs

    def init_weights(self) -> None:
        """Initialize the weights, and let the regression start where the coder says; a second call does nothing."""
        initialized = self.is_init
        # past BaseDenseHead's, which sets the convolutions of deformable offsets to 0
        BaseModule.init_weights(self)
        if not (initialized or self._has_trained_weights()):
            nn.init.constant_(self.atss_reg.bias, getattr(self.bbox_coder, 'initial_bias', 0.0))

    def _has_trained_weights(self) -> bool:
        """Return whether ``init_cfg`` reads the weights from a checkpoint."""
        cfgs = self.init_cfg if isinstance(self.init_cfg, (list, tuple)) else [self.init_cfg or {}]
        return any(cfg.get('type') in ('Pretrained', PretrainedInit) for cfg in cfgs)

    def forward(self, feats: Sequence[Tensor]) -> Tuple[List[Tensor], List[Tensor], Sequence[Tensor]]:
        """Return outputs for feature maps (B, in_channels, H, W) of L levels.

        Returns:
            tuple: logits (B, A * C, H, W), box regression (B, A * 4, H, W) and centerness (B, A, H, W) of each level;
            without centerness the last is empty.

        Raises:
            UsageError: another number of feature maps than of strides.
        """
        check_levels(feats, self.prior_generator.strides)
        cls_scores, bbox_preds, centernesses = [], [], []
        for level, x in enumerate(feats):
            cls_feat = reg_feat = x
            for cls_conv, reg_conv in zip(self.cls_convs, self.reg_convs):
                cls_feat, reg_feat = cls_conv(cls_feat), reg_conv(reg_feat)
            cls_scores.append(self.atss_cls(cls_feat))
            bbox_pred = self.atss_reg(reg_feat).float()  # the scale may take it beyond float16's range
            bbox_preds.append(self.scales[level](bbox_pred) if self.scales else bbox_pred)
            if self.atss_centerness is not None:
                centernesses.append(self.atss_centerness(reg_feat))
        return cls_scores, bbox_preds, centernesses or ()

    def get_priors(self, featmap_sizes: Sequence[Tuple[int, int]], device: torch.device) -> Tuple[Tensor, List[int]]:
        """Return the priors (N, 4) of feature maps of these sizes, and how many each level has.

        The same tensor for the same sizes, so that an assigner knows it again without looking.
        """
        key = (tuple(tuple(int(n) for n in size) for size in featmap_sizes), torch.device(device))
        if key not in self._priors:
            levels = self.prior_generator.grid_priors(key[0], device=device)
            self._priors[key] = (torch.cat(levels), [len(priors) for priors in levels])
            if len(self._priors) > 16:
                self._priors.popitem(last=False)
        self._priors.move_to_end(key)
        return self._priors[key]

    def _flatten(
        self, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor], centernesses: Sequence[Tensor]
    ) -> Outputs:
        logits, deltas = flatten_levels(cls_scores, self.num_classes), flatten_levels(bbox_preds, 4)
        return Outputs(logits, deltas, flatten_levels(centernesses, 1).squeeze(-1) if centernesses else None)

    def loss_by_feat(
        self,
        cls_scores: List[Tensor],
        bbox_preds: List[Tensor],
        centernesses: Sequence[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: List[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """Return the losses of a batch, all levels and images at once.

        Unlike in mmdet's heads, priors on the padding take part, as they do in the authors' training.

        Args:
            cls_scores, bbox_preds, centernesses: what :meth:`forward` returns.
            batch_gt_instances (list[InstanceData]): ``bboxes`` (G, 4) xyxy in pixels and ``labels`` (G,) of each
                image.
            batch_img_metas (list[dict]): not needed.
            batch_gt_instances_ignore (list[InstanceData], optional): ``bboxes`` of regions to be ignored.

        Returns:
            dict: ``loss_cls``, ``loss_bbox`` and, with centerness, ``loss_centerness``.
        """
        check_assigner(self)
        priors, num_level_priors = self.get_priors([m.shape[-2:] for m in cls_scores], cls_scores[0].device)
        outputs = self._flatten(cls_scores, bbox_preds, centernesses)
        target = assign_images(
            self.assigner,
            priors,
            num_level_priors,
            batch_gt_instances,
            batch_gt_instances_ignore,
            self._predictions(outputs, priors),
            self.prior_generator.strides,
        )
        positive = (target.gt_inds > 0).flatten()
        num_pos = self._average(positive.sum().float())
        losses = dict(loss_cls=self._loss_cls(outputs.logits, target, positive, num_pos))
        losses.update(self._box_losses(outputs, priors, target, positive, num_pos.clamp(min=1)))
        return losses

    def _predictions(self, outputs: Outputs, priors: Tensor) -> Optional[InstanceList]:
        """Return what the model predicts, if the assigner looks at it; the losses are the same either way."""
        if not needs_predictions(self.assigner):
            return None
        return predict_all(outputs.logits, outputs.deltas, priors, self.bbox_coder.decode)

    def _average(self, number: Tensor) -> Tensor:
        """Return the mean of a number over all processes, or the number where each divides by its own."""
        return reduce_mean(number) if self.average_over_processes else number

    def _loss_cls(self, logits: Tensor, target, positive: Tensor, num_pos: Tensor) -> Tensor:
        divisor = num_pos.clamp(min=1)
        if self.count_images:
            divisor = num_pos + self._average(torch.full_like(num_pos, len(logits)))
        labels = torch.where(positive, target.labels.flatten(), self.num_classes)
        not_ignored = (target.gt_inds >= 0).flatten().float()
        return self.loss_cls(logits.flatten(0, 1), labels, not_ignored, avg_factor=divisor)

    def _box_losses(self, outputs: Outputs, priors: Tensor, target, positive: Tensor, num_pos: Tensor) -> dict:
        """Return box and centerness losses of the positives; zero, with gradients, where there are none."""
        rows = box_loss_rows(positive)
        priors = priors.repeat(len(target.gt_inds), 1)[rows]  # (P, 4)
        mask = positive[rows]
        # what is not finite at a background location is no part of the loss
        deltas = torch.where(mask[:, None], outputs.deltas.flatten(0, 1)[rows], 0.0)
        boxes = target.boxes_at(rows).to(priors.dtype)
        boxes = torch.where(mask[:, None], boxes, priors)
        weight, divisor, losses = mask.float(), num_pos, {}
        if outputs.centerness is not None:
            centerness = centerness_targets(priors, boxes)
            losses['loss_centerness'] = self.loss_centerness(
                outputs.centerness.flatten()[rows], centerness, weight, avg_factor=num_pos
            )
            # the boxes count as much as they are centred (docs/recipe.md, "Losses")
            weight = weight * centerness
            divisor = self._average(weight.sum()).clamp(min=torch.finfo(torch.float32).eps)
        if self.reg_decoded_bbox:
            loss = self.loss_bbox(self.bbox_coder.decode(priors, deltas), boxes, reduction_override='none')
        else:
            loss = self.loss_bbox(deltas, self.bbox_coder.encode(priors, boxes), reduction_override='none').sum(-1)
        losses['loss_bbox'] = (loss * weight).sum() / divisor
        return losses

    def predict_by_feat(
        self,
        cls_scores: List[Tensor],
        bbox_preds: List[Tensor],
        score_factors: Optional[Sequence[Tensor]] = None,
        batch_img_metas: Optional[List[dict]] = None,
        cfg: OptConfigType = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Return detections of a batch.

        Args:
            cls_scores, bbox_preds, score_factors: what :meth:`forward` returns.
            batch_img_metas (list[dict]): ``img_shape``, and ``scale_factor`` if ``rescale``.
            cfg (dict, optional): takes the place of ``test_cfg``.
            rescale (bool): boxes in pixels of the original image.
            with_nms (bool): False returns what NMS would be given.

        Returns:
            list[InstanceData]: ``bboxes`` (n, 4) xyxy, ``scores`` (n,) and ``labels`` (n,) of each image.
        """
        cfg = self.test_cfg if cfg is None else cfg
        priors, num_level_priors = self.get_priors([m.shape[-2:] for m in cls_scores], cls_scores[0].device)
        outputs = self._flatten(cls_scores, bbox_preds, score_factors or ())
        scores = self._scores(outputs, cfg.get('score_thr', 0.0))
        best, index = best_of_levels(scores, num_level_priors, cfg.get('nms_pre', -1))
        results = []
        for i, img_meta in enumerate(batch_img_metas):
            kept = best[i] >= 0
            prior = index[i][kept] // self.num_classes
            boxes = self.bbox_coder.decode(priors[prior], outputs.deltas[i][prior], max_shape=img_meta['img_shape'])
            detections = InstanceData(bboxes=boxes, scores=best[i][kept], labels=index[i][kept] % self.num_classes)
            results.append(self._bbox_post_process(detections, cfg, rescale, with_nms, img_meta))
        return results

    @staticmethod
    def _scores(outputs: Outputs, threshold: float) -> Tensor:
        """Return scores (B, N, C), -1 where the classification does not exceed the threshold.

        The classification alone is compared with the threshold; the best of a level, NMS and the result go by its
        geometric mean with the centerness (docs/recipe.md, "Inference").
        """
        classification = outputs.logits.sigmoid()
        scores = classification
        if outputs.centerness is not None:
            scores = (classification * outputs.centerness.sigmoid()[..., None]).sqrt()
        return scores.masked_fill(classification <= threshold, -1)


def flatten_levels(maps: Sequence[Tensor], channels: int) -> Tensor:
    """Return maps (B, A * channels, H, W) of all levels as one (B, N, channels), at least float32, in the order of the
    priors."""
    flat = torch.cat([m.permute(0, 2, 3, 1).reshape(m.size(0), -1, channels) for m in maps], dim=1)
    return flat if flat.dtype == torch.float64 else flat.float()


def best_of_levels(scores: Tensor, num_level_priors: List[int], num_best: int) -> Tuple[Tensor, Tensor]:
    """Return the ``num_best`` (-1: all) highest of each level's scores (B, N, C): values and indices into N * C, (B, K)
    each."""
    values, indices, start = [], [], 0
    for level in scores.split(num_level_priors, dim=1):
        level = level.flatten(1)
        k = min(num_best, level.size(1)) if num_best > 0 else level.size(1)
        value, index = level.topk(k)
        values.append(value)
        indices.append(index + start)
        start += level.size(1)
    return torch.cat(values, 1), torch.cat(indices, 1)
