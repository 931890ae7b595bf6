"""One code for the host and for accelerators: NumPy's arrays on the CPU, PyTorch's tensors elsewhere.

An assignment is a hundred operations on small arrays.  On the host, starting an operation costs more than carrying it
out, and NumPy starts one several times faster than PyTorch does; both share the memory, so that nothing is copied.
What the two spell alike (operators, indexing, ``reshape``) the assigners just write; the rest is here.

Legend: n elements, C columns, P claims.
"""

from typing import Iterator, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

Array = Union[np.ndarray, Tensor]


def on_host(tensor: Tensor) -> bool:
    """Whether a tensor is on the CPU, where its values and their number can be asked for at no cost."""
    return tensor.device.type == 'cpu'


def to_array(array: Array) -> Array:
    """Return a tensor as the array that the assigners work on, sharing its memory."""
    if isinstance(array, Tensor) and on_host(array):
        return (array.detach() if array.requires_grad else array).numpy()
    return array


def to_tensor(array: Array) -> Tensor:
    """Return the tensor again."""
    if isinstance(array, np.ndarray):
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    return array


def library(array: Array) -> Union['Host', 'Device']:
    """Where the operations for this array are."""
    return Host if isinstance(array, np.ndarray) else Device


class Host:
    """Operations on NumPy's arrays."""

    minimum, maximum, ceil, where, isfinite = np.minimum, np.maximum, np.ceil, np.where, np.isfinite
    amax, stack, concatenate, broadcast_to = np.amax, np.stack, np.concatenate, np.broadcast_to
    contiguous = np.ascontiguousarray

    @staticmethod
    def precise(x: np.ndarray) -> np.ndarray:
        """In float64."""
        return x.astype(np.float64, copy=False)

    @staticmethod
    def whole(x: np.ndarray) -> np.ndarray:
        """As int64."""
        return x.astype(np.int64)

    @staticmethod
    def at_least(x: np.ndarray, least: float) -> np.ndarray:
        """In place."""
        return np.maximum(x, least, out=x)

    @staticmethod
    def from_host(x: np.ndarray, like: np.ndarray) -> np.ndarray:
        """Numbers known on the host, where ``like`` is."""
        return x

    @staticmethod
    def arange(num: int, like: np.ndarray) -> np.ndarray:
        """0 to num - 1, int64."""
        return np.arange(num)

    @staticmethod
    def zeros(num: int, like: np.ndarray) -> np.ndarray:
        """(num,) of the same kind."""
        return np.zeros(num, like.dtype)

    @staticmethod
    def tables(num: int, values: Sequence[int], like: np.ndarray) -> Iterator[np.ndarray]:
        """Return an int64 table (num,) for each value, filled with it; one allocation, and PyTorch fills with all threads."""
        tables = np.empty((len(values), num), dtype=np.int64)
        for table, value in zip(tables, values):
            torch.from_numpy(table).fill_(value)
            yield table

    @staticmethod
    def gather(table: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Return the entries of (..., n) at some indices into its last dimension."""
        return table.take(index, axis=-1)

    @staticmethod
    def positions(mask: np.ndarray) -> Tuple[Tuple[np.ndarray, ...], None]:
        """Where a mask is true: its indices along every dimension, (P,) each."""
        return mask.nonzero(), None

    @staticmethod
    def smallest(values: np.ndarray, order: np.ndarray, k: int) -> np.ndarray:
        """Where the k smallest values of every column of (n, ...) are, ties to the smaller ``order`` >= 0, in any order:
        (min(k, n), ...)."""
        if k >= len(values):
            return Host.broadcast_to(np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1)), values.shape)
        index = np.argpartition(values, (k - 1, k), axis=0)
        last, first_left_out = Host.take(values, index[k - 1 : k + 1])
        if (last < first_left_out).all():
            return index[:k].copy()  # not a part of the n that keeps them all
        with np.errstate(invalid='ignore'):
            rank = Host.precise(values - last) * 1e300 + order  # see Device.smallest
        return np.argpartition(rank, k - 1, axis=0)[:k].copy()

    @staticmethod
    def take(values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Return the values (n, ...) at some indices (k, ...) of every column."""
        if not values.flags.c_contiguous:
            return np.take_along_axis(values, index, 0)
        columns = values[0].size
        flat = index.reshape(len(index), -1) * columns + np.arange(columns)
        return values.reshape(-1).take(flat).reshape(index.shape)

    @staticmethod
    def mean_and_std(values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Of the columns of (n, C), with n - 1; the mean of equal values is that value, exactly."""
        first = values[0]
        mean = first + (values - first).sum(0) / len(values)
        deviation = values - mean
        return mean, np.sqrt((deviation * deviation).sum(0) / (len(values) - 1))

    @staticmethod
    def highest_at(table: np.ndarray, slot: np.ndarray, values: np.ndarray) -> None:
        """Write the highest of the values (P,) that go to each slot into a table."""
        table[slot] = values
        np.maximum.at(table, slot, values)

    @staticmethod
    def lowest_at(table: np.ndarray, slot: np.ndarray, values: np.ndarray) -> None:
        """Write the lowest of the values (P,) that go to each slot into a table."""
        table[slot] = values
        np.minimum.at(table, slot, values)

    @staticmethod
    def equal(one: np.ndarray, other: np.ndarray) -> bool:
        """Whether two arrays of the same shape hold the same."""
        return np.array_equal(one, other)


class Device:
    """The same on PyTorch's tensors, without making the host wait for the device."""

    minimum, maximum, ceil, where, isfinite = torch.minimum, torch.maximum, torch.ceil, torch.where, torch.isfinite
    amax, stack, concatenate, broadcast_to = torch.amax, torch.stack, torch.cat, torch.broadcast_to
    contiguous = Tensor.contiguous

    @staticmethod
    def precise(x: Tensor) -> Tensor:
        """In float64; in float32 on devices that have no float64."""
        return x.float() if x.device.type == 'mps' else x.double()

    @staticmethod
    def whole(x: Tensor) -> Tensor:
        return x.long()

    @staticmethod
    def at_least(x: Tensor, least: float) -> Tensor:
        return x.clamp_(min=least)

    @staticmethod
    def from_host(x: np.ndarray, like: Tensor) -> Tensor:
        if x.dtype == np.float64 and like.device.type == 'mps':
            x = x.astype(np.float32)
        return torch.from_numpy(x).to(like.device, non_blocking=True)

    @staticmethod
    def arange(num: int, like: Tensor) -> Tensor:
        return torch.arange(num, device=like.device)

    @staticmethod
    def zeros(num: int, like: Tensor) -> Tensor:
        return like.new_zeros(num)

    @staticmethod
    def tables(num: int, values: Sequence[int], like: Tensor) -> Iterator[Tensor]:
        return (like.new_full((num,), value) for value in values)

    @staticmethod
    def gather(table: Tensor, index: Tensor) -> Tensor:
        return table[..., index]

    @staticmethod
    def positions(mask: Tensor) -> Tuple[Tuple[Tensor, ...], Optional[Tensor]]:
        """How many there are the host does not know: all positions, and the mask of those that count, (P,)."""
        index, found = torch.arange(mask.numel(), device=mask.device), []
        for size in reversed(mask.shape):
            found.insert(0, index % size)
            index = index // size
        return tuple(found), mask.flatten()

    @staticmethod
    def smallest(values: Tensor, order: Tensor, k: int) -> Tensor:
        """``topk`` promises nothing about ties.  Only the tie at the k-th value has to be decided: everything below it
        is in, of the equal ones those of smallest order."""
        k = min(k, values.size(0))
        last = values.topk(k, dim=0, largest=False).values.amax(0)
        # values below the k-th rank far below 0, those equal to it by their order, those above far above any order; where
        # the k-th is infinite, inf - inf is nan, which counts as largest
        rank = (values - last) * (1e300 if values.dtype == torch.float64 else 1e30) + order
        return rank.topk(k, dim=0, largest=False, sorted=False).indices

    @staticmethod
    def take(values: Tensor, index: Tensor) -> Tensor:
        return values.gather(0, index)

    @staticmethod
    def mean_and_std(values: Tensor) -> Tuple[Tensor, Tensor]:
        return torch.std_mean(values, dim=0)[::-1]

    @staticmethod
    def highest_at(table: Tensor, slot: Tensor, values: Tensor) -> None:
        table.scatter_reduce_(0, slot, values, 'amax', include_self=False)

    @staticmethod
    def lowest_at(table: Tensor, slot: Tensor, values: Tensor) -> None:
        table.scatter_reduce_(0, slot, values, 'amin', include_self=False)

    @staticmethod
    def equal(one: Tensor, other: Tensor) -> bool:
        """Return the host has to wait for the answer."""
        return torch.equal(one, other)


def precise(x: Array) -> Array:
    """``x`` in float64 (float32 on devices that have no float64), where differences of float32 pixels are exact."""
    return library(x).precise(x)


def positions(mask: Array) -> Tuple[Tuple[Array, ...], Optional[Array]]:
    """Where a mask is true: indices along every dimension (P,), and a mask of those that count; None if all do."""
    return library(mask).positions(mask)


def gather(table: Array, index: Array) -> Array:
    """Return the entries of a table (..., n) at some indices into its last dimension."""
    return library(table).gather(table, index)
