"""The fixed order of sums: the same bits, whoever sums which blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from hypothesis import given, settings
from hypothesis import strategies as st
from sumgrad_engine.blocks import BLOCK, TreeSum, block_count, block_range, tree_sum
from sumgrad_engine.objective import fit_arrays
from sumgrad_engine.ops.fold import fold, product
from sumgrad_engine.program import EvaluateProgram, GradientProgram


def _tree(vectors: list[Any]) -> Any:
    """The definition: split at the largest power of two below the count."""
    if len(vectors) == 1:
        return vectors[0]
    half = 1 << ((len(vectors) - 1).bit_length() - 1)
    return _tree(vectors[:half]) + _tree(vectors[half:])


def _vectors(count: int, seed: int = 0) -> list[Any]:
    random = np.random.default_rng(seed)
    return list(random.normal(size=(count, 3)) * 10.0 ** random.integers(-8, 8, (count, 1)))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 100])
def test_the_tree_is_the_one_that_is_defined(count: int) -> None:
    """Bit for bit the recursive definition."""
    vectors = _vectors(count)
    assert tree_sum(vectors).tobytes() == _tree(vectors).tobytes()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.integers(0, 8), st.integers(0, 1000))
def test_sums_of_aligned_shards_have_the_same_bits(count: int, power: int, seed: int) -> None:
    """Shards of a power of two of blocks, the last one shorter, summed by the tree on both levels."""
    vectors, size = _vectors(count, seed), 1 << power
    shards = [tree_sum(vectors[start : start + size]) for start in range(0, count, size)]
    assert tree_sum(shards).tobytes() == tree_sum(vectors).tobytes()


def test_tree_sum_of_nothing_is_refused_and_vectors_stay() -> None:
    """No blocks have no sum; what is given is not changed; -0.0 stays."""
    with pytest.raises(ValueError, match="at least one sample"):
        tree_sum([])
    vectors = _vectors(5)
    copies = [vector.copy() for vector in vectors]
    tree_sum(vectors)
    for vector, copy in zip(vectors, copies, strict=True):
        np.testing.assert_array_equal(vector, copy)
    for count in (1, 2, 3):
        assert np.signbit(tree_sum([np.array([-0.0])] * count)).all()
    stack = TreeSum()
    stack.push(vectors[0])
    assert stack.total() is vectors[0]


@pytest.mark.parametrize(("samples", "blocks"), [(1, 1), (511, 1), (512, 1), (513, 2), (1024, 2), (1025, 3), (5000, 10)])
def test_blocks_cover_the_samples(samples: int, blocks: int) -> None:
    """Blocks of 512, the last one shorter, without gap or overlap."""
    assert block_count(samples) == blocks
    ranges = [block_range(block, samples) for block in range(blocks)]
    assert [stop for _, stop in ranges[:-1]] == [start for start, _ in ranges[1:]]
    assert (ranges[0][0], ranges[-1][1]) == (0, samples)
    assert all(0 < stop - start <= BLOCK for start, stop in ranges)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2), st.integers(0, 100))
def test_fold_is_a_sum_along_an_axis(count: int, axis: int, seed: int) -> None:
    """The value is numpy.sum's within rounding, and the bits do not depend on what stands beside it."""
    shape = [3, 2, 4]
    shape[axis] = count
    array = np.random.default_rng(seed).normal(size=shape)
    folded = fold(array, axis)
    np.testing.assert_allclose(folded, array.sum(axis=axis), rtol=1e-12, atol=1e-13)
    rows = np.moveaxis(array, axis, 0).reshape(count, folded.size)
    alone = np.array([fold(np.ascontiguousarray(column), 0) for column in rows.T])
    assert alone.tobytes() == np.ascontiguousarray(folded).tobytes()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(0, 9), st.integers(1, 5), st.integers(1, 4))
def test_products_are_the_same_alone_and_stacked(m: int, k: int, n: int, stack: int) -> None:
    """A matrix product has the same bits for one sample as among many."""
    random = np.random.default_rng(m * 100 + k)
    a, b = random.normal(size=(stack, m, k)), random.normal(size=(k, n))
    together = product(a, b)
    np.testing.assert_allclose(together, a @ b, rtol=1e-12, atol=1e-13)
    for row, matrix in zip(together, a, strict=True):
        assert product(matrix, b).tobytes() == row.tobytes()


def _objective() -> sg.Objective:
    x, k, y = sg.input("x", shape=3), sg.input("k", dtype=int), sg.input("y")
    random = np.random.default_rng(8)
    w, v = sg.param("w", random.normal(size=(3, 4))), sg.param("v", random.normal(size=4))
    table = sg.param("table", random.normal(size=(5, 4)))
    score = sg.sum(sg.tanh(x @ w + sg.take(table, k, 0)) * v)
    loss = sg.softplus(-y * score) + sg.logsumexp(x @ w)
    return sg.Objective(loss, penalty=1e-3 * sg.sum(w * w), metrics={"right": score * y > 0, "score": score})


def _data(samples: int) -> dict[str, Any]:
    random = np.random.default_rng(samples)
    x = random.normal(size=(samples, 3)) * 10.0 ** random.integers(-6, 3, (samples, 1))
    return {"x": x, "k": random.integers(0, 5, samples), "y": np.where(random.random(samples) < 0.5, -1.0, 1.0)}


@pytest.mark.parametrize("samples", [1, 511, 512, 513, 1024, 5000])
@pytest.mark.parametrize("shard", [1, 2, 4, 8])
def test_partial_sums_have_the_same_bits_however_they_are_cut(samples: int, shard: int) -> None:
    """Shards of 1, 2, 4 and 8 blocks, each summed by a program of its own, against all at once."""
    objective = _objective()
    params, inputs, count = fit_arrays(objective.graph, objective.params, _data(samples))
    blocks = block_count(count)
    whole = GradientProgram(objective.graph).partial(params, inputs, 0, blocks, count)
    parts = [
        GradientProgram(objective.graph).partial(params, inputs, first, min(shard, blocks - first), count)
        for first in range(0, blocks, shard)
    ]
    assert tree_sum(parts).tobytes() == whole.tobytes()
    program = GradientProgram(objective.graph)
    result = program.finish(tree_sum(parts), program.penalty(params), count, mean=False)
    direct = objective.value_and_grad(objective.params, _data(samples))
    assert result.value == direct.value
    for name, grad in direct.grads.items():
        assert result.grads[name].tobytes() == grad.tobytes()


def test_negative_zero_comes_through() -> None:
    """A sum of -0.0 over blocks is -0.0: no sum starts from a 0.0 of its own."""
    x, w = sg.input("x"), sg.param("w", 1.0)
    for samples in (1, 2, 3, 512, 513, 1500):
        found = sg.Objective(x * w).value_and_grad({"w": 1.0}, {"x": np.full(samples, -0.0)})
        assert np.signbit(found.value)
        assert np.signbit(found.grads["w"])


@pytest.mark.parametrize("samples", [1, 511, 512, 513, 1024, 1300])
def test_outputs_for_each_sample_do_not_depend_on_the_cut(samples: int) -> None:
    """EvaluateProgram over ranges of blocks gives the rows of the whole."""
    objective = _objective()
    program = EvaluateProgram(objective.graph)
    params, inputs, count = fit_arrays(objective.graph, objective.params, _data(samples))
    whole = program.run(params, inputs, 0, count)
    parts = [program.run(params, inputs, *block_range(block, count)) for block in range(block_count(count))]
    for name, value in whole.items():
        assert value.shape[0] == samples
        assert np.concatenate([part[name] for part in parts]).tobytes() == value.tobytes()
