"""Modulated deformable convolution for the backbones of Table 8."""

from mmcv.ops import ModulatedDeformConv2dPack
from mmengine.model import caffe2_xavier_init

from ..registry import MODELS


@MODELS.register_module()
class DCNv2(ModulatedDeformConv2dPack):
    """mmcv's ``DCNv2`` with the authors' initial offsets; same arguments, parameters and output.

    The convolution of the offsets and modulations starts from Kaiming's uniform distribution with a = 1, within
    sqrt(3 / fan_in), and biases 0 (docs/recipe.md, "Initial weights"). mmcv's starts from zeros.
    """

    def init_weights(self) -> None:
        """Initialize the weights; mmcv's constructor also calls this, at first before ``conv_offset`` exists."""
        super().init_weights()
        if hasattr(self, 'conv_offset'):
            caffe2_xavier_init(self.conv_offset)
