"""The operators that this subpackage defines in torch; an exporter sees each of them as one call."""

from typing import Callable

import torch

NAMESPACE = 'atss_plugin'
_library = torch.library.Library(NAMESPACE, 'DEF')


def define(schema: str, on_cpu: Callable, shape: Callable) -> Callable:
    """Define an operator.

    Args:
        schema: name, arguments and result, as ``torch.library`` writes them.
        on_cpu: computes it.
        shape: gives an empty result of the right shape, for ``torch.export``.

    Returns:
        The operator, a function; ``.default`` of it is what a translation table of ``torch.onnx.export`` names.
    """
    name = schema.split('(')[0]
    _library.define(schema)
    _library.impl(name, on_cpu, 'CPU')
    if hasattr(torch.library, 'register_fake'):  # a torch without it has no exporter that asks for it
        torch.library.register_fake(f'{NAMESPACE}::{name}', shape, lib=_library)
    return getattr(getattr(torch.ops, NAMESPACE), name)
