"""Hooks for training."""

from .assignment_stats_hook import AssignmentStatsHook
from .channels_last_hook import ChannelsLastHook
from .paired_randomness_hook import PairedRandomnessHook

__all__ = ['AssignmentStatsHook', 'ChannelsLastHook', 'PairedRandomnessHook']
