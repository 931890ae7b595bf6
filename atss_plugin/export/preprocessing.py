"""What has to happen to an image before an exported model sees it, in a form that a program can read."""

from typing import Tuple

from mmengine.config import Config

from atss_plugin.analysis.input_geometry import pipeline_of
from atss_plugin.errors import UsageError


def test_resize(cfg: Config) -> dict:
    """Return the ``Resize`` of a config's test pipeline; empty if there is none.

    Raises:
        UsageError: there are several, or a transform changes the size in another way.
    """
    pipeline = pipeline_of((cfg.get('test_dataloader') or {}).get('dataset') or {})
    resizes = [transform for transform in pipeline if any(word in transform['type'] for word in ('Resize', 'Crop'))]
    if len(resizes) > 1 or any(transform['type'].split('.')[-1] != 'Resize' for transform in resizes):
        raise UsageError(
            f'the test pipeline has {[transform["type"] for transform in resizes]}; an exported model can state one '
            'Resize only'
        )
    return dict(resizes[0]) if resizes else {}


def default_shape(cfg: Config) -> Tuple[int, int]:
    """Return (H, W) of the input that a config tests with: the scale of its ``Resize``, which is (W, H).

    Raises:
        UsageError: the config does not say it.
    """
    scale = test_resize(cfg).get('scale')
    if not isinstance(scale, (tuple, list)) or len(scale) != 2:
        raise UsageError('the test pipeline of the config has no Resize with a scale (width, height): give --shape H W')
    return int(scale[1]), int(scale[0])


def describe(cfg: Config, shape: Tuple[int, int]) -> dict:
    """Return the steps from an image file to the input of shape (H, W), and what the graph does itself."""
    resize = test_resize(cfg)
    preprocessor = cfg.model.get('data_preprocessor') or {}
    # the pixels that become the network's padding after normalisation
    mean, std = preprocessor.get('mean') or [0.0], preprocessor.get('std') or [1.0]
    padding = [m + s * preprocessor.get('pad_value', 0) for m, s in zip(mean, std)]
    if preprocessor.get('bgr_to_rgb') or preprocessor.get('rgb_to_bgr'):
        padding.reverse()
    return dict(
        channels='BGR',
        values='0 to 255',
        dtype='uint8',
        layout='NCHW',
        height=shape[0],
        width=shape[1],
        keep_ratio=resize.get('keep_ratio', False),
        interpolation=resize.get('interpolation', 'bilinear'),
        padding=[min(max(round(value), 0), 255) for value in padding],
        inside_the_graph=['normalisation', 'padding', 'network', 'decoding', 'clipping', 'NMS'],
    )
