"""What happens around the model: loading checkpoints, hooks of the training."""
from .checkpoint_loading import IncompleteCheckpointError

__all__ = ['IncompleteCheckpointError']
