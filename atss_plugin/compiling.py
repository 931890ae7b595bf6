"""What torch.compile leaves alone."""

from typing import Callable

import torch


def uncompiled(function: Callable) -> Callable:
    """Decorate a function that compiled code calls as it is, instead of tracing it (torch can since 2.1)."""
    return torch.compiler.disable(function) if hasattr(torch, 'compiler') else function
