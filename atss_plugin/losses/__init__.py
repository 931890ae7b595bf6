"""Losses."""

from .focal import FocalLoss

__all__ = ['FocalLoss']
