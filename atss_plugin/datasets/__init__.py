"""Data: the embedded set of shapes, and COCO with errors that say what to change."""

from .coco import CocoDataset
from .shapes import ShapesBackend, ShapesDataset

__all__ = ['CocoDataset', 'ShapesBackend', 'ShapesDataset']
