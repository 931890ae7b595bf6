"""Losses that cost what they should."""

from .focal import FocalLoss

__all__ = ['FocalLoss']
