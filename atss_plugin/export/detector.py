"""A detector as one function of pixels, for an exporter.

Legend: B images, H, W the input's height and width, N priors, C classes, K candidates of an image (the best of each
level), D detections, M survivors of all images.
"""

from typing import Tuple

import torch
from mmengine.model import ImgDataPreprocessor
from torch import Tensor, nn
from torch.nn.functional import one_hot

from atss_plugin.errors import UsageError
from atss_plugin.heads import OneStageHead
from atss_plugin.heads.one_stage import best_of_levels

from .suppression import non_max_suppression

NO_DETECTION = -1  # the label of a row without one
_DROPPED = -1.0  # the score of an empty slot; those of candidates are probabilities
_NMS_KEYS = {'type', 'iou_threshold', 'class_agnostic', 'split_thr'}  # split_thr changes how, not what


class ExportableDetector(nn.Module):
    """Normalisation, padding, network, decoding and NMS of a detector with our head, for inputs of one size.

    It computes what ``predict`` of the model does, with the model's own parts, on tensors of fixed size.

    Args:
        model: mmdet's ``SingleStageDetector`` with an ``OneStageHead``; it is set to evaluation mode.
        height, width: of the input images, before padding.

    Raises:
        UsageError: the model has another head, or a ``test_cfg`` that cannot be exported.
    """

    def __init__(self, model: nn.Module, height: int, width: int) -> None:
        super().__init__()
        head = getattr(model, 'bbox_head', None)
        if not isinstance(head, OneStageHead):
            raise UsageError(
                f'the head of this model is {type(head).__name__}; only atss_plugin.OneStageHead, RetinaNetHead and '
                'FCOSHead can be exported'
            )
        self.model = model.eval()
        self.shape = (height, width)
        self.class_agnostic, self.iou_threshold = read_nms(head.test_cfg)
        images = torch.zeros(1, 3, height, width, dtype=torch.uint8)
        with torch.no_grad():
            sizes = [m.shape[-2:] for m in model.extract_feat(self.preprocess(images))]
        # computed once: they are constants of the exported graph
        priors, self.num_level_priors = head.get_priors(sizes, torch.device('cpu'))
        self.register_buffer('priors', priors.clone(), persistent=False)

    def preprocess(self, images: Tensor) -> Tensor:
        """Return pixels (B, 3, H, W) as the network takes them: normalised, and padded at the right and the bottom."""
        # only what concerns pixels in mmdet's DetDataPreprocessor: the rest needs data samples and a fixed batch
        return ImgDataPreprocessor.forward(self.model.data_preprocessor, dict(inputs=images))['inputs']

    def forward(self, images: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Detect objects.

        Args:
            images: (B, 3, H, W), uint8, the channels as OpenCV reads them (BGR).

        Returns:
            Boxes (B, D, 4) as [x1, y1, x2, y2] in pixels of the input, scores (B, D) and labels (B, D), by falling
            score. Where an image has fewer than D = ``max_per_img`` detections, the other rows are zeros with the
            label -1.
        """
        head = self.model.bbox_head
        outputs = head._flatten(*head(self.model.extract_feat(self.preprocess(images))))
        scores = head._scores(outputs, head.test_cfg.get('score_thr', 0.0))
        best, index = best_of_levels(scores, self.num_level_priors, head.test_cfg.get('nms_pre', -1))
        prior, label = index // head.num_classes, index % head.num_classes
        boxes = self._decode(outputs.deltas, prior)
        best = best.masked_fill(~self._large_enough(boxes), _DROPPED)
        best = best.masked_fill(~self._survivors(boxes, best, label), _DROPPED)
        return self._detections(boxes, best, label)

    def _decode(self, deltas: Tensor, prior: Tensor) -> Tensor:
        """Return the boxes (B, K, 4) of the candidates' priors (B, K), clipped to the image."""
        deltas = deltas.gather(1, prior[..., None].expand(-1, -1, 4))
        coder = self.model.bbox_head.bbox_coder
        boxes = coder.decode(self.priors[prior].flatten(0, 1), deltas.flatten(0, 1), max_shape=self.shape)
        return boxes.view_as(deltas)

    def _large_enough(self, boxes: Tensor) -> Tensor:
        """Return whether both sides of each box (B, K, 4) exceed ``min_bbox_size``, (B, K) bool."""
        smallest = self.model.bbox_head.test_cfg.get('min_bbox_size', -1)
        sides = boxes[..., 2:] - boxes[..., :2]
        # without the test every side passes, as in mmdet
        return (sides > (smallest if smallest >= 0 else -float('inf'))).all(-1)

    def _survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Return whether each candidate survives the NMS, (B, K) bool."""
        by_class = scores[:, None]
        if not self.class_agnostic:
            belongs = one_hot(labels, self.model.bbox_head.num_classes).transpose(1, 2).bool()  # (B, C, K)
            by_class = by_class.masked_fill(~belongs, _DROPPED)
        survivor = non_max_suppression(boxes, by_class, self._limit(scores), self.iou_threshold, _DROPPED / 2)  # (M, 3)
        none = torch.zeros_like(scores, dtype=torch.bool)
        return none.index_put((survivor[:, 0], survivor[:, 2]), torch.ones_like(survivor[:, 0], dtype=torch.bool))

    def _limit(self, scores: Tensor) -> int:
        """Return D for candidates (B, K)."""
        return min(self.model.bbox_head.test_cfg['max_per_img'], scores.size(1))

    def _detections(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Return the best D candidates; a negative score marks an empty slot."""
        scores, order = scores.topk(self._limit(scores))
        missing = scores < 0
        boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4)).masked_fill(missing[..., None], 0)
        labels = labels.gather(1, order).masked_fill(missing, NO_DETECTION)
        return boxes, scores.clamp(min=0), labels


def read_nms(test_cfg: dict) -> Tuple[bool, float]:
    """Return whether NMS mixes the classes, and its IoU.

    Raises:
        UsageError: another kind of NMS, an option of it that ONNX does not have, or no limit to the detections.
    """
    if test_cfg.get('max_per_img', 0) < 1:
        raise UsageError('test_cfg.max_per_img is the number of rows that an exported model gives: make it positive')
    nms = dict(test_cfg['nms'])
    if nms.get('type', 'nms') != 'nms':
        raise UsageError(
            f'test_cfg.nms is {nms["type"]}, which cannot be exported; use dict(type="nms", iou_threshold=0.6)'
        )
    if set(nms) - _NMS_KEYS:
        raise UsageError(f'test_cfg.nms has {sorted(set(nms) - _NMS_KEYS)}, which cannot be exported; remove them')
    return nms.get('class_agnostic', False), float(nms['iou_threshold'])
