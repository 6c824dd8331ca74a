"""Where uploads come from: each kind of source gives the same bytes as the arrays that it holds, and says what it can't take."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as arrow
import pyarrow.parquet
import pytest
from sumgrad.sources import Source, open_source
from sumgrad_engine.errors import InputError

SAMPLES = 5000


@pytest.fixture
def arrays() -> dict[str, Any]:
    """Columns of each type that is sent, one of vectors."""
    dice = np.random.default_rng(3)
    return {
        "x": dice.normal(size=(SAMPLES, 3)),
        "y": dice.normal(size=SAMPLES).astype(np.float32),
        "k": dice.integers(-5, 5, SAMPLES),
        "n": dice.integers(-5, 5, SAMPLES).astype(np.int32),
        "on": dice.integers(0, 2, SAMPLES).astype(bool),
    }


def read(source: Source) -> dict[str, Any]:
    """What a source gives, put together."""
    parts: list[list[Any]] = [[] for _ in source.columns]
    for number, piece in source.pieces():
        assert piece.flags.c_contiguous
        parts[number].append(piece)
    return {name: np.concatenate(found) for name, found in zip(source.columns, parts, strict=True)}


def assert_gives(source: Source, arrays: dict[str, Any]) -> None:
    """A source gives just these arrays, in type, shape and bytes, twice if it says so."""
    assert {name: (column.dtype, column.shape) for name, column in source.columns.items()} == {
        name: (array.dtype, array.shape[1:]) for name, array in arrays.items()
    }
    assert source.nbytes in (None, sum(array.nbytes for array in arrays.values()))
    for _ in range(1 + source.again):
        found = read(source)
        assert {name: array.tobytes() for name, array in found.items()} == {name: array.tobytes() for name, array in arrays.items()}


def parquet(path: Path, arrays: dict[str, Any]) -> Path:
    """The arrays in a Parquet file of several row groups."""
    vectors = arrow.FixedSizeListArray.from_arrays(arrow.array(arrays["x"].ravel()), 3)
    table = arrow.table({"x": vectors, **{name: arrow.array(array) for name, array in arrays.items() if name != "x"}})
    arrow.parquet.write_table(table, path, row_group_size=700)
    return path


def test_arrays_in_memory(arrays: dict[str, Any]) -> None:
    """Arrays as they are; parts of others, of the other byte order, and lists are made contiguous on the way."""
    assert_gives(open_source(arrays), arrays)
    strided = {"x": np.repeat(arrays["x"], 2, axis=0)[::2], "k": arrays["k"].astype(">i8")}
    assert_gives(open_source(strided), {"x": arrays["x"], "k": arrays["k"]})
    assert_gives(open_source({"k": [1, 2, 3]}), {"k": np.array([1, 2, 3])})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files(arrays: dict[str, Any], tmp_path: Path, save: Any) -> None:
    """Stored or compressed, row by row or column by column."""
    save(tmp_path / "data.npz", **{**arrays, "x": np.asfortranarray(arrays["x"])})
    assert_gives(open_source(tmp_path / "data.npz"), arrays)
    assert_gives(open_source(str(tmp_path / "data.npz"), ["k", "x"]), {"k": arrays["k"], "x": arrays["x"]})
    with np.load(tmp_path / "data.npz") as loaded:
        assert_gives(open_source(loaded), arrays)


def test_parquet_files(arrays: dict[str, Any], tmp_path: Path) -> None:
    """One file; several of them, or a folder, one after another; lists of a fixed size are vectors."""
    one = parquet(tmp_path / "a.parquet", arrays)
    assert_gives(open_source(one), arrays)
    two = parquet(tmp_path / "b.parquet", {name: array[:100] for name, array in arrays.items()})
    both = {name: np.concatenate([array, array[:100]]) for name, array in arrays.items()}
    assert_gives(open_source([one, two]), both)
    assert_gives(open_source(tmp_path), both)
    assert_gives(open_source(one, ["n"]), {"n": arrays["n"]})


def test_tables(arrays: dict[str, Any]) -> None:
    """DataFrames of pandas and of polars, by their columns."""
    flat = {name: array for name, array in arrays.items() if name != "x"}
    assert_gives(open_source(pd.DataFrame(flat)), flat)
    assert_gives(open_source(pl.DataFrame(flat)), flat)
    assert_gives(open_source(arrow.table(flat)), flat)


def test_batches(arrays: dict[str, Any]) -> None:
    """A list and a function begin anew, an iterator does not; small integers are widened."""
    parts = [{name: array[start : start + 999] for name, array in arrays.items()} for start in range(0, SAMPLES, 999)]
    assert_gives(open_source(parts), arrays)
    assert_gives(open_source(lambda: iter(parts)), arrays)
    once = open_source(iter(parts))
    assert not once.again
    assert_gives(once, arrays)
    narrow = [{"n": part["n"].astype(np.int8)} for part in parts]
    assert_gives(open_source(narrow), {"n": arrays["n"]})


def test_files_are_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """Reading 120 MB takes a fraction of that, whatever kind of file it is."""
    path = tmp_path / "large.npz"
    np.savez(path, x=np.zeros(15_000_000))
    tracemalloc.start()
    try:
        total = sum(piece.nbytes for _, piece in open_source(path).pieces())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 120_000_000
    assert peak < 40_000_000


def endless() -> Iterator[dict[str, Any]]:
    """Batches of which the second has another type."""
    yield {"x": np.zeros(3)}
    yield {"x": np.zeros(3, complex)}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "no columns"),
        ({"x": 1.0}, "scalar"),
        ({"x": []}, "at least one"),
        ({"x": [1.0], "y": [1.0, 2.0]}, "'y' has 2 samples, but 'x' has 1"),
        ({"x": ["a"]}, "columns.x"),
        (3, "not int"),
        ([], "no batches"),
        ([{"x": [1.0]}, {"y": [1.0]}], "batch 1 has the columns"),
        ([{"x": [1.0]}, {"x": [[1.0]]}], r"batch 1 has float64 of shape \(1,\)"),
        (endless, "columns.x"),
        ("data.csv", "one .npz file"),
    ],
)
def test_what_can_not_be_sent_is_named(data: Any, said: str) -> None:
    """Each kind of mistake is an InputError that says where it is."""
    with pytest.raises(InputError, match=said):
        read(open_source(data))


def test_columns_that_are_not_there(arrays: dict[str, Any], tmp_path: Path) -> None:
    """A column that was asked for and does not exist is named, whatever the source."""
    for source in (arrays, parquet(tmp_path / "a.parquet", arrays), [arrays]):
        with pytest.raises(InputError, match="'zzz'"):
            read(open_source(source, ["zzz"]))


def test_missing_values_are_named_by_row(tmp_path: Path) -> None:
    """A Parquet column with a hole is refused, and the row is told."""
    arrow.parquet.write_table(arrow.table({"x": [1.0] * 70_000 + [None]}), tmp_path / "holes.parquet")
    with pytest.raises(InputError, match=r"'x' has no value in row 70000"):
        read(open_source(tmp_path / "holes.parquet"))
    holes = arrow.array([[1.0, 2.0], [3.0, None]], arrow.list_(arrow.float64(), 2))
    arrow.parquet.write_table(arrow.table({"x": holes}), tmp_path / "lists.parquet")
    with pytest.raises(InputError, match=r"'x' has no value in row 1$"):
        read(open_source(tmp_path / "lists.parquet"))
    arrow.parquet.write_table(arrow.table({"x": ["text"]}), tmp_path / "text.parquet")
    with pytest.raises(InputError, match="column 'x' holds string"):
        open_source(tmp_path / "text.parquet")


@pytest.mark.parametrize("name", ["broken.npz", "broken.parquet"])
def test_files_that_are_none(tmp_path: Path, name: str) -> None:
    """A file that is not what its name says is named."""
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=name):
        open_source(tmp_path / name)


def test_python_objects_are_never_read(tmp_path: Path) -> None:
    """A file with pickled objects is refused."""
    np.savez(tmp_path / "objects.npz", x=np.array([{}, {}], dtype=object))
    with pytest.raises(InputError, match="Python objects"):
        open_source(tmp_path / "objects.npz")
