"""Where the box regression starts: from a point (here), or from a box (mmdet's ``DeltaXYWHBBoxCoder``)."""

from .anchor_point import AnchorPointCoder

__all__ = ['AnchorPointCoder']
