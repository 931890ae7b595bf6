"""From a config and a checkpoint to an ONNX file, by torch's own exporter."""

import contextlib
import json
import logging
import sys
import warnings
from inspect import signature
from pathlib import Path
from typing import Optional, Sequence, Tuple, Union

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config

from atss_plugin.analysis.detector import build_detector
from atss_plugin.errors import UsageError
from atss_plugin.version import __version__

from . import deformable, suppression
from .detector import ExportableDetector
from .preprocessing import default_shape, describe

OPSET = 19  # the first with DeformConv
INPUT, OUTPUTS = 'images', ('boxes', 'scores', 'labels')
PREFIX = 'atss_plugin.'  # of the keys of the metadata


def export_onnx(
    cfg: Config,
    checkpoint: Union[str, Path],
    target: Union[str, Path],
    shape: Optional[Tuple[int, int]] = None,
    batch: Union[int, str] = 1,
) -> Path:
    """Write a trained detector, with normalisation, decoding and NMS, as an ONNX file.

    Args:
        cfg: the config that it was trained with.
        checkpoint: its checkpoint.
        target: the file to write.
        shape: height and width of the input images in pixels; by default the scale of the test pipeline's
            ``Resize``.
        batch: how many images are passed per call; 'dynamic' for any number.

    Returns:
        The file written. Its metadata holds the pre-processing, the classes and the test settings as JSON.

    Raises:
        UsageError: the checkpoint does not fit the config, or the model or the shape cannot be exported.
        ImportError: this torch cannot export, or ``onnxscript`` is missing.
    """
    target = Path(target)
    _require_exporter()
    if not target.parent.is_dir():
        raise UsageError(f'no folder {target.parent} to write {target.name} into')
    if batch != 'dynamic' and (not isinstance(batch, int) or batch < 1):
        raise UsageError(f'batch {batch}: give a number of images, or dynamic')
    shape = default_shape(cfg) if shape is None else tuple(shape)
    if min(shape) < 1:
        raise UsageError(f'the shape {shape[0]} x {shape[1]}: height and width must be positive')
    with contextlib.redirect_stdout(sys.stderr):
        model = build_detector(cfg, str(checkpoint))
    deformable.make_exportable(model)
    program = _export(ExportableDetector(model, *shape), batch)
    metadata = dict(
        version=__version__,
        preprocessing=describe(cfg, shape),
        classes=list(model.dataset_meta.get('classes') or _classes_of_config(cfg)),
        test_cfg=dict(model.bbox_head.test_cfg),
    )
    program.model.metadata_props.update({PREFIX + key: json.dumps(value) for key, value in metadata.items()})
    program.save(str(target))
    return target


def _classes_of_config(cfg: Config) -> Sequence[str]:
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    named = (dataset.get('metainfo') or {}).get('classes')
    return named or getattr(DATASETS.get(dataset.get('type', '')), 'METAINFO', {}).get('classes', ())


def _require_exporter() -> None:
    if 'custom_translation_table' not in signature(torch.onnx.export).parameters:
        raise ImportError(
            f'the ONNX exporter of torch {torch.__version__} cannot translate NMS (it has no '
            'custom_translation_table): export with a newer torch; checkpoints are the same'
        )
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{error}: pip install 'atss_plugin[export]'") from error


def _export(detector: ExportableDetector, batch: Union[int, str]):
    """Trace and translate, and return torch's ``ONNXProgram``."""
    dynamic = batch == 'dynamic'
    # a batch of one would be taken for a constant, even if it is declared dynamic
    images = torch.zeros(2 if dynamic else batch, 3, *detector.shape, dtype=torch.uint8)
    dimensions = {0: torch.export.Dim('batch')} if dynamic else {}
    with _quiet(), torch.no_grad():
        # Traced first, then translated: while torch.onnx exports by itself, mmdet's coder takes a branch that it
        # no longer has (mmdet.core).
        program = torch.export.export(detector, (images,), dynamic_shapes=(dimensions,), strict=False)
        return torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: 'batch'},) if dynamic else None,  # the name that the file shows
            opset_version=OPSET,
            custom_translation_table={**suppression.TRANSLATION, **deformable.TRANSLATION},
        )


@contextlib.contextmanager
def _quiet():
    """Hide warnings that concern only the exporter, such as that torchvision is not installed."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
