"""A config's text as data: what mmengine wrote into a work directory is read, never executed."""

import ast
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

# as Python prints the floats that have no literal
FLOATS = {name: float(name) for name in ('inf', 'nan')}


class NotPlainError(ValueError):
    """A config that consists of more than names and their values."""


def read_plain_config(path: Path) -> Config:
    """Read the file that mmengine's ``Config.dump`` writes: ``name = value``, values of literals and ``dict(...)``.

    Nothing is imported or called, so the file need not be trusted.

    Raises:
        NotPlainError: there is anything else in it, or it is cut off.
    """
    try:
        tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    except (SyntaxError, ValueError) as error:
        raise NotPlainError(f'{path} is not a config as mmengine writes it: {error}') from error
    values = {}
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise NotPlainError(f'{path}, line {node.lineno}: only `name = value` is read, nothing is executed')
        try:
            values[node.targets[0].id] = _value(node.value)
        except (ValueError, TypeError, AttributeError) as error:
            raise NotPlainError(f'{path}, line {node.lineno}: {error}; nothing is executed') from error
    return Config(values)


def _value(node: Optional[ast.AST]) -> Any:
    """Return the value of an expression of literals."""
    if node is None:  # the key of ** in a dict
        raise ValueError('** is not a value')
    if isinstance(node, ast.Dict):
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        # dict({'a b': 1}) is how mmengine writes keys that are not names; `**` has no name and is refused
        pairs = {key: value for part in node.args for key, value in _value(part).items()}
        if any(keyword.arg is None for keyword in node.keywords):
            raise ValueError('** is not a value')
        return {**pairs, **{keyword.arg: _value(keyword.value) for keyword in node.keywords}}
    if isinstance(node, ast.Name) and node.id in FLOATS:
        return FLOATS[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    return ast.literal_eval(node)
