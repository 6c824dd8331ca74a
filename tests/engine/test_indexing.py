"""Indexing: what NumPy gives for the same key, for many keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sumgrad_engine.program import EvaluateProgram
from sumgrad_engine.trace import trace

SHAPES = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)


@st.composite
def keys_with_array(draw: Any) -> tuple[tuple[int, ...], Any]:
    """A shape, and a key for it with one array of integers among integers, slices, None and Ellipsis."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
    place = draw(st.integers(0, len(shape) - 1))
    items: list[Any] = []
    for axis, extent in enumerate(shape):
        if axis == place:
            entries = draw(hnp.arrays(np.int64, draw(hnp.array_shapes(max_dims=2, max_side=3)), elements=st.integers(0, extent - 1)))
            items.append(entries)
        else:
            items.append(draw(st.one_of(st.integers(-extent, extent - 1), st.slices(extent))))
        if draw(st.integers(0, 5)) == 0:
            items.append(None)
    return shape, tuple(items)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_basic_keys(data: Any) -> None:
    """Integers, slices with any step, None and Ellipsis."""
    array = np.arange(float(np.prod(shape := data.draw(SHAPES), dtype=int))).reshape(shape)
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    expected = array[key]
    found = sg.Value(array)[key]
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.data, expected)


@settings(max_examples=300, deadline=None)
@given(keys_with_array())
def test_keys_with_one_array(shape_and_key: tuple[tuple[int, ...], Any]) -> None:
    """One array of integers among basic items: its axes go where NumPy puts them."""
    shape, key = shape_and_key
    array = np.arange(float(np.prod(shape))).reshape(shape)
    expected = array[key]
    found = sg.Value(array)[key]
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.data, expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_gradients_go_back_to_their_places(data: Any) -> None:
    """The gradient of sum(weights * x[key]) puts the weights where the elements came from."""
    array = np.arange(float(np.prod(shape := data.draw(SHAPES), dtype=int))).reshape(shape)
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    x = sg.Value(array)
    weights = 1.0 + np.arange(float(array[key].size)).reshape(array[key].shape)
    expected = np.zeros(shape)
    expected[key] += weights
    sg.sum(x[key] * weights).backward()
    np.testing.assert_array_equal(x.grad, expected)


def test_index_by_an_integer_input() -> None:
    """x[k] with k an input chooses for each sample, along any axis."""
    x, k = sg.input("x", shape=(2, 3)), sg.input("k", dtype=int)
    data = np.arange(12.0).reshape(2, 2, 3)
    found = EvaluateProgram(trace({"row": x[k], "column": x[:, k]})).run({}, {"x": data, "k": np.array([1, 0])}, 0, 2)
    np.testing.assert_array_equal(found["row"], [data[0, 1], data[1, 0]])
    np.testing.assert_array_equal(found["column"], [data[0, :, 1], data[1, :, 0]])


def test_keys_that_are_refused() -> None:
    """Out of range is IndexError, as iteration needs; two arrays and masks are named."""
    x = sg.Value(np.zeros((3, 2)))
    with pytest.raises(IndexError, match="axis 0 of extent 3"):
        x[3]
    with pytest.raises(sg.ShapeError, match="more than one array"):
        x[[0, 1], [0, 1]]
    with pytest.raises(sg.ShapeError, match="integers"):
        x[np.array([True, False, True])]
