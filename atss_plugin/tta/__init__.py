"""Multi-scale testing."""

from .soft_voting import soft_voting, within_size_range
from .soft_voting_tta import SoftVotingTTA

__all__ = ['SoftVotingTTA', 'soft_voting', 'within_size_range']
