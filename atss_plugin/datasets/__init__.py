"""Data: the embedded set of shapes, and COCO with errors that say what to change."""
from atss_plugin.datasets.coco import CocoDataset
from atss_plugin.datasets.shapes import ShapesBackend, ShapesDataset

__all__ = ['CocoDataset', 'ShapesBackend', 'ShapesDataset']
