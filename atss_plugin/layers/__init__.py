"""Layers of the backbone that start differently from mmcv's."""

from .dcn_v2 import DCNv2

__all__ = ['DCNv2']
