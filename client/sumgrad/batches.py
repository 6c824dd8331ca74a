"""Which samples a member of a run takes in a step: pure functions, so that everybody can work out who has what, at any time and anywhere.

The samples of an epoch are in an order that a seed decides: sample k of epoch e is a permutation's value at k, worked out for each k alone, without memory for
the whole. The permutation is a Feistel network on the numbers below the least even power of two that is not less than n, applied again to what falls
outside 0..n-1 ("cycle walking": Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). Its rounds are the finaliser of SplitMix64 (Steele, Lea
and Flood, "Fast Splittable Pseudorandom Number Generators", 2014). It is integer arithmetic alone: the same on every machine, in every version of NumPy.
"""

from __future__ import annotations

import operator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["permuted", "rows_of", "steps_per_epoch"]

Indices = NDArray[np.int64]
ROUNDS = 6
KEPT_SAMPLES = 1 << 18
"""An epoch's order of up to so many samples (2 MiB) is kept for its next steps."""
TOGETHER, MOST_TOGETHER = 1 << 15, 64
"""Epochs of so many samples in all, but no more than so many epochs, are worked out at once."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_MASK = (1 << 64) - 1


def steps_per_epoch(samples: int, batch_size: int | None) -> int:
    """How many batches there are until every sample was taken once; the last of them may be shorter."""
    return -(-samples // min(batch_size or samples, samples))


def rows_of(step: int, rank: int, size: int, *, samples: int, batch_size: int | None, seed: int) -> Indices:
    """The samples that the member of this rank, of `size` members, takes in a step, which counts from 0. They may be none.

    The batch of step s is the (s mod steps_per_epoch)-th of epoch s // steps_per_epoch: so many samples in the order that `seed` decides for that epoch;
    without a batch size, all samples in their own order. The members' parts lie one after the other in it, as equal as they can be. So for any `size`
    the parts of all ranks are the batch, each of its samples once.
    """
    seed = operator.index(seed)
    if not 0 <= rank < size:
        raise ValueError(f"rank counts from 0 to {size - 1}, not {rank}")
    if batch_size is None:
        start, stop = _part(samples, rank, size)
        return np.arange(start, stop, dtype=np.int64)
    epoch, batch = divmod(step, steps_per_epoch(samples, batch_size))
    first = batch * min(batch_size, samples)
    start, stop = _part(min(batch_size, samples - first), rank, size)
    if samples <= KEPT_SAMPLES:
        group, number = divmod(epoch, _together(samples))
        return _orders(samples, seed, group)[number, first + start : first + stop].copy()
    return permuted(np.arange(first + start, first + stop, dtype=np.int64), samples, seed, epoch)


def _together(samples: int) -> int:
    """How many epochs' orders are worked out at once."""
    return min(MOST_TOGETHER, max(1, TOGETHER // samples))


@lru_cache(maxsize=4)
def _orders(samples: int, seed: int, group: int) -> Indices:
    """Whole epochs, (epochs, samples): the steps of a run come fast, and one call for many places takes little longer than one for a few."""
    count = _together(samples)
    keys = np.stack([_keys(seed, group * count + number) for number in range(count)], axis=1)
    places = np.tile(np.arange(samples, dtype=np.uint64), count)
    return _walked(places, samples, np.repeat(keys, samples, axis=1)).reshape(count, samples)


def _part(length: int, rank: int, size: int) -> tuple[int, int]:
    return length * rank // size, length * (rank + 1) // size


def permuted(places: Indices, samples: int, seed: int, epoch: int) -> Indices:
    """The samples at these places of an epoch's order: a permutation of 0..samples-1, for each seed and epoch another."""
    return _walked(places.astype(np.uint64), samples, _keys(seed, epoch)[:, None])


def _walked(numbers: NDArray[np.uint64], samples: int, keys: NDArray[np.uint64]) -> Indices:
    """Where numbers come to, with the keys of each, or one column of them for all."""
    half = max(1, (max(1, samples - 1).bit_length() + 1) // 2)
    found = _feistel(numbers, half, keys)
    outside = np.flatnonzero(found >= samples)
    while len(outside):
        again = _feistel(found[outside], half, keys if keys.shape[1] == 1 else keys[:, outside])
        found[outside] = again
        outside = outside[again >= samples]
    return found.astype(np.int64)


def _keys(seed: int, epoch: int) -> NDArray[np.uint64]:
    """A key for each round."""
    start = (seed * 0xD1342543DE82EF95 + epoch * 0xAF251AF3B0F025B5 + 1) & _MASK
    steps = np.arange(1, ROUNDS + 1, dtype=np.uint64) * _GOLDEN
    return _mixed(np.uint64(start) + steps)


def _feistel(numbers: NDArray[np.uint64], half: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = numbers >> shift, numbers & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return (left << shift) | right


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser. Arithmetic is modulo 2^64."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * _MIXERS[0]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIXERS[1]
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
