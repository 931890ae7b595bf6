"""Anchors as the authors' code makes them."""

from .rounded_anchor_generator import RoundedAnchorGenerator

__all__ = ['RoundedAnchorGenerator']
