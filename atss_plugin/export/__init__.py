"""A trained model as an ONNX file that needs none of the libraries it was trained with."""

from .detector import ExportableDetector
from .onnx_file import export_onnx

__all__ = ['ExportableDetector', 'export_onnx']
