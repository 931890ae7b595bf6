"""Parameters and FLOPs of a detector at a given input, by mmengine's analysis, without a data set."""

import contextlib
import logging
import sys
from functools import partial
from typing import Dict, Tuple

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.analysis import FlopAnalyzer, parameter_count
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import InstanceData

PARTS = ('backbone', 'neck', 'rpn_head', 'bbox_head', 'roi_head')


def complexity(cfg: Config, height: int = 800, width: int = 1333) -> Dict[str, Tuple[int, int]]:
    """Count the parameters and FLOPs of a detector.

    Args:
        cfg: its config.
        height, width: of the input in pixels; it is padded as the config's data preprocessor does.

    Returns:
        (parameters, FLOPs of a forward pass without decoding and NMS) of ``model`` and of each part that it
        has.  One multiply-add is one FLOP, as in mmdet's tables.
    """
    with contextlib.redirect_stdout(sys.stderr):
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
    divisor = cfg.model.get('data_preprocessor', {}).get('pad_size_divisor', 1)
    height, width = (-(-side // divisor) * divisor for side in (height, width))
    # two-stage heads read the proposals' image size from here
    sample = DetDataSample(metainfo=dict(img_shape=(height, width), batch_input_shape=(height, width)))
    sample.gt_instances = InstanceData()
    model.forward = partial(model.forward, data_samples=[sample])
    logging.getLogger('mmengine').setLevel(logging.ERROR)  # operators without a formula are many and cheap
    flops = FlopAnalyzer(model, (torch.zeros(1, 3, height, width),))
    flops.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings('none')
    parameters = parameter_count(model)
    parts = [part for part in PARTS if getattr(model, part, None) is not None]
    with torch.no_grad():
        by_module = flops.by_module()
    return {part or 'model': (int(parameters[part]), int(by_module[part])) for part in ['', *parts]}
