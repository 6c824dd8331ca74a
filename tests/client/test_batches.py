"""Who takes which samples: every sample once an epoch, whoever takes part, and the same on every machine."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sumgrad.batches import KEPT_SAMPLES, permuted, rows_of, steps_per_epoch

MASK = (1 << 64) - 1


def mixed(number: int) -> int:
    """SplitMix64's finaliser, as its paper has it."""
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
    return number ^ (number >> 31)


def permuted_by_hand(place: int, samples: int, seed: int, epoch: int) -> int:
    """The sample at a place of an epoch's order, in Python's integers."""
    half = max(1, math.ceil(math.log2(samples) / 2)) if samples > 1 else 1
    start = seed * 0xD1342543DE82EF95 + epoch * 0xAF251AF3B0F025B5 + 1
    keys = [mixed((start + (k + 1) * 0x9E3779B97F4A7C15) & MASK) for k in range(6)]
    while True:
        left, right = place >> half, place & ((1 << half) - 1)
        for key in keys:
            left, right = right, left ^ (mixed((right + key) & MASK) & ((1 << half) - 1))
        place = (left << half) | right
        if place < samples:
            return place


@given(samples=st.integers(1, 5000), seed=st.integers(-(2**70), 2**70), epoch=st.integers(0, 2**40))
def test_every_sample_has_one_place(samples: int, seed: int, epoch: int) -> None:
    """An epoch's order is a permutation, for any number of samples, any seed and any epoch."""
    assert np.array_equal(np.sort(permuted(np.arange(samples), samples, seed, epoch)), np.arange(samples))


@given(samples=st.integers(1, 1 << 40), seed=st.integers(0, 2**64), epoch=st.integers(0, 1000), data=st.data())
def test_order_is_that_of_the_network_by_hand(samples: int, seed: int, epoch: int, data: st.DataObject) -> None:
    """The order is that of the Feistel network written out in Python's integers."""
    places = data.draw(st.lists(st.integers(0, samples - 1), max_size=5))
    found = permuted(np.array(places, np.int64), samples, seed, epoch)
    assert found.tolist() == [permuted_by_hand(place, samples, seed, epoch) for place in places]


def test_orders_are_pinned() -> None:
    """Orders do not change from one version to the next: a run goes on as it began."""
    assert permuted(np.arange(10), 10, 0, 0).tolist() == PINNED[0]
    assert permuted(np.arange(10), 10, 0, 1).tolist() == PINNED[1]
    assert permuted(np.arange(10), 10, 1, 0).tolist() == PINNED[2]
    assert permuted(np.arange(5) * 10**17, 10**18, 42, 7).tolist() == PINNED[3]


PINNED = [
    [2, 4, 6, 0, 7, 3, 8, 1, 9, 5],
    [7, 4, 3, 2, 6, 1, 0, 9, 8, 5],
    [8, 4, 2, 6, 5, 9, 7, 1, 0, 3],
    [455714583670552719, 371262513371355587, 946759545119529489, 299413964209159389, 669419493911223704],
]


@pytest.mark.parametrize("samples", [4, 5, 16])
def test_no_sample_prefers_a_place(samples: int) -> None:
    """Over many epochs each sample is as often at each place: the chi-square statistic is not an odd one."""
    epochs = 2000
    counts = np.zeros((samples, samples))
    for epoch in range(epochs):
        counts[np.arange(samples), permuted(np.arange(samples), samples, 9, epoch)] += 1
    expected = epochs / samples
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert 0.001 < stats.chi2.sf(statistic, (samples - 1) ** 2) < 0.999


def test_neighbours_are_torn_apart() -> None:
    """In an order of many samples, those that lie next to each other are no more alike than chance has it: no serial correlation, nor with the place."""
    order = permuted(np.arange(60_000), 60_000, 3, 0).astype(float)
    for first, second in ((order[:-1], order[1:]), (order, np.arange(60_000.0))):
        assert abs(np.corrcoef(first, second)[0, 1]) < 4.0 / math.sqrt(60_000)


@given(
    samples=st.integers(1, 300),
    batch_size=st.one_of(st.none(), st.integers(1, 400)),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    seed=st.integers(0, 100),
    epoch=st.integers(0, 5),
)
def test_parts_are_the_batches(samples: int, batch_size: int | None, sizes: list[int], seed: int, epoch: int) -> None:
    """However many members there are in each step, their parts are its batch, as equal as they can be, and an epoch's batches are all samples."""
    steps = steps_per_epoch(samples, batch_size)
    taken = []
    for step in range(epoch * steps, (epoch + 1) * steps):
        size = sizes[step % len(sizes)]
        parts = [rows_of(step, rank, size, samples=samples, batch_size=batch_size, seed=seed) for rank in range(size)]
        whole = rows_of(step, 0, 1, samples=samples, batch_size=batch_size, seed=seed)
        assert np.array_equal(np.concatenate(parts), whole)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        taken.append(whole)
    assert np.array_equal(np.sort(np.concatenate(taken)), np.arange(samples))
    if batch_size is not None:
        assert {len(part) for part in taken[:-1]} <= {min(batch_size, samples)}


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    """Another epoch or seed is another order; without a batch size samples come in their own."""
    orders = {tuple(permuted(np.arange(50), 50, seed, epoch).tolist()) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100
    assert rows_of(5, 0, 1, samples=4, batch_size=None, seed=1).tolist() == [0, 1, 2, 3]
    assert rows_of(5, 2, 3, samples=2, batch_size=None, seed=1).tolist() == [1]


@pytest.mark.parametrize("samples", [KEPT_SAMPLES, KEPT_SAMPLES + 1])
def test_kept_orders_are_those_that_are_worked_out(samples: int) -> None:
    """Orders that are kept for the next step, and those of more samples, which are not, are the permutation's; what one is given is one's own."""
    for step in (0, 3, 2 * steps_per_epoch(samples, 1000) - 1):
        epoch, batch = divmod(step, steps_per_epoch(samples, 1000))
        places = np.arange(samples)[batch * 1000 : (batch + 1) * 1000]
        for _ in range(2):
            found = rows_of(step, 0, 1, samples=samples, batch_size=1000, seed=5)
            assert np.array_equal(found, permuted(places, samples, 5, epoch))
            found[:] = 0


def test_ranks_count_from_0() -> None:
    """A rank that no member has is an error."""
    for rank in (-1, 3):
        with pytest.raises(ValueError, match="rank counts from 0 to 2"):
            rows_of(0, rank, 3, samples=5, batch_size=2, seed=0)
