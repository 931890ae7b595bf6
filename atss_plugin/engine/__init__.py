"""What happens around the model: loading checkpoints, hooks of the training."""

from .assignment_stats_hook import AssignmentStatsHook
from .channels_last_hook import ChannelsLastHook
from .checkpoint_loading import IncompleteCheckpointError
from .paired_randomness_hook import PairedRandomnessHook

__all__ = ['AssignmentStatsHook', 'ChannelsLastHook', 'IncompleteCheckpointError', 'PairedRandomnessHook']
