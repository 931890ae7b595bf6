"""Hooks of the training."""

from .assignment_stats_hook import AssignmentStatsHook

__all__ = ['AssignmentStatsHook']
