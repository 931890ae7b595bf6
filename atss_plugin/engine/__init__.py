"""What happens around the model: loading checkpoints, hooks of the training."""

from .assignment_stats_hook import AssignmentStatsHook
from .checkpoint_loading import IncompleteCheckpointError

__all__ = ['AssignmentStatsHook', 'IncompleteCheckpointError']
