"""Files of parameters: what is written reads back to the bit, other libraries read it too, and what is no such file is named."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import sumgrad as sg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

SUFFIXES = [".npz", ".safetensors"]


@pytest.fixture
def params() -> dict[str, Any]:
    """Parameters with names and shapes of many kinds, and floats of every kind."""
    return {
        "mlp.0.weight": np.random.default_rng(0).normal(size=(3, 4)),
        "scalar": np.array(np.pi),
        "empty": np.empty((0, 3)),
        "gewölbe / 2": np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, np.finfo(float).max]),
        "file": np.ones(1),
        "turned": np.arange(6.0).reshape(2, 3).T,
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_read_back_to_the_bit(tmp_path: Path, params: dict[str, Any], suffix: str) -> None:
    """Names, shapes and bits are those that were written, and only the file is left in its folder."""
    path = tmp_path / f"model{suffix}"
    for _ in range(2):
        sg.save_params(path, params)
    found = sg.load_params(str(path))
    assert {name: (array.shape, array.tobytes()) for name, array in found.items()} == {
        name: (array.shape, array.tobytes()) for name, array in params.items()
    }
    assert all(array.dtype == np.float64 for array in found.values())
    assert os.listdir(tmp_path) == [path.name]


@given(
    values=arrays.arrays(np.float64, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)),
    name=st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_any_array_of_any_name(tmp_path_factory: pytest.TempPathFactory, values: Any, name: str) -> None:
    """Whatever a parameter is called and holds, .safetensors keeps it."""
    path = tmp_path_factory.mktemp("any") / "one.safetensors"
    sg.save_params(path, {name: values})
    found = sg.load_params(path)
    assert list(found) == [name]
    assert (found[name].shape, found[name].tobytes()) == (values.shape, values.tobytes())


def test_other_libraries_read_and_write_them(tmp_path: Path, params: dict[str, Any]) -> None:
    """NumPy and safetensors read what is written here; what they have written is read here, in float64."""
    sg.save_params(tmp_path / "a.npz", params)
    sg.save_params(tmp_path / "a.safetensors", params)
    with np.load(tmp_path / "a.npz") as file:
        assert {name: file[name].tobytes() for name in file} == {name: array.tobytes() for name, array in params.items()}
    assert safetensors.numpy.load_file(tmp_path / "a.safetensors")["turned"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    half = {"w": np.array([0.5, -2.0], np.float16), "n": np.array([1, 2], np.int32), "on": np.array([True, False])}
    np.savez(tmp_path / "b.npz", **half)
    safetensors.numpy.save_file(half, tmp_path / "b.safetensors")
    for suffix in SUFFIXES:
        found = sg.load_params(tmp_path / f"b{suffix}")
        assert {name: array.tolist() for name, array in found.items()} == {"w": [0.5, -2.0], "n": [1.0, 2.0], "on": [1.0, 0.0]}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 100, b"{}", (100).to_bytes(8, "little") + b"{"])
def test_what_is_no_such_file_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    """Files of other kinds are errors that name the file."""
    path = tmp_path / f"other{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"other{suffix} is no {suffix} file"):
        sg.load_params(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_named(tmp_path: Path, params: dict[str, Any], suffix: str) -> None:
    """A file that was cut short is an error, wherever it was cut."""
    path = tmp_path / f"cut{suffix}"
    sg.save_params(path, params)
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"cut{suffix} is no"):
            sg.load_params(path)


class Trap:
    """What an unpickler would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Leaves a trace."""
        return os.mkdir, ("trace",)


def test_no_code_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickles, bare or as objects in a .npz file, are refused, and not run."""
    monkeypatch.chdir(tmp_path)
    Path("bare.npz").write_bytes(pickle.dumps(Trap()))
    np.savez("inner.npz", w=np.array([Trap()], object))
    for name in ("bare.npz", "inner.npz"):
        with pytest.raises(ValueError, match=f"{name} is no .npz file of numbers"):
            sg.load_params(name)
    assert not Path("trace").exists()


def test_what_holds_no_numbers_is_named(tmp_path: Path) -> None:
    """Words, complex numbers and other suffixes are errors, in reading and in writing."""
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match=r"array\.npz is no \.npz file"):
        sg.load_params(tmp_path / "array.npz")
    np.savez(tmp_path / "words.npz", label=np.array(["a"]))
    with pytest.raises(ValueError, match=r"words\.npz: 'label' has elements of type <U1"):
        sg.load_params(tmp_path / "words.npz")
    for path in ("model.pt", "model", "model.npz.bak"):
        with pytest.raises(ValueError, match=r"\.npz or \.safetensors"):
            sg.load_params(tmp_path / path)
        with pytest.raises(ValueError, match=r"\.npz or \.safetensors"):
            sg.save_params(tmp_path / path, {})
    with pytest.raises(FileNotFoundError, match="missing"):
        sg.load_params(tmp_path / "missing.npz")
    for value in (np.array(["a"]), np.array([1j]), np.array([None])):
        with pytest.raises(ValueError, match="'w' has elements of type"):
            sg.save_params(tmp_path / "model.npz", {"w": value})
    assert sorted(os.listdir(tmp_path)) == ["array.npz", "words.npz"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_failed_write_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    """Where the file can't be put in its place, because a folder is there, that stays, and nothing is left beside it."""
    path = tmp_path / f"model{suffix}"
    (path / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="model"):
        sg.save_params(path, {"w": np.zeros(2)})
    assert os.listdir(tmp_path) == [path.name]
    assert os.listdir(path) == ["inside"]


def test_the_reserved_name(tmp_path: Path) -> None:
    """A parameter called as the header of .safetensors calls its notes is refused by name there, and nothing is written; .npz takes it."""
    params = {"__metadata__": np.ones(2)}
    with pytest.raises(ValueError, match=r"__metadata__.*write \.npz"):
        sg.save_params(tmp_path / "p.safetensors", params)
    assert not list(tmp_path.iterdir())
    sg.save_params(tmp_path / "p.npz", params)
    assert list(sg.load_params(tmp_path / "p.npz")) == ["__metadata__"]


def test_names_that_end_like_members_of_an_archive(tmp_path: Path) -> None:
    """NumPy's own reader takes one of them for the other. What is no array in an archive is named."""
    params = {"x": np.array(1.0), "x.npy": np.array(2.0), "x.npy.npy": np.array(3.0), "": np.array(4.0)}
    for suffix in SUFFIXES:
        sg.save_params(tmp_path / f"p{suffix}", params)
        assert {name: float(value) for name, value in sg.load_params(tmp_path / f"p{suffix}").items()} == {
            "x": 1.0,
            "x.npy": 2.0,
            "x.npy.npy": 3.0,
            "": 4.0,
        }
    with zipfile.ZipFile(tmp_path / "p.npz", "a") as archive:
        archive.writestr("notes.txt", "words")
    with pytest.raises(ValueError, match=r"p\.npz: 'notes\.txt' has elements of type"):
        sg.load_params(tmp_path / "p.npz")


@pytest.mark.parametrize("name", ["\0", "nul\0x", "w\0"])
def test_a_name_that_zip_cuts(tmp_path: Path, name: str) -> None:
    """Archives end names at NUL, so that two may become one: it is refused by name there, and nothing is written; .safetensors takes it."""
    with pytest.raises(ValueError, match=r"p\.npz: .*\\x00.*write \.safetensors"):
        sg.save_params(tmp_path / "p.npz", {name: np.ones(2)})
    assert not list(tmp_path.iterdir())
    sg.save_params(tmp_path / "p.safetensors", {name: np.ones(2)})
    assert list(sg.load_params(tmp_path / "p.safetensors")) == [name]


def tensor(kind: str, shape: list[int], data: bytes) -> bytes:
    """A .safetensors file of one tensor: the length of a header in JSON, the header, the data."""
    header = json.dumps({"w": {"dtype": kind, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


def test_elements_that_numpy_lacks(tmp_path: Path) -> None:
    """The bfloat16 of other libraries is read, as the upper half of a float32; other types of theirs are named, and so is what a file has no room for."""
    values = np.array([1.5, -2.0, 0.0, np.inf], np.float32)
    halves = (values.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(tensor("BF16", [2, 2], halves))
    assert sg.load_params(path)["w"].tolist() == values.reshape(2, 2).tolist()
    path.write_bytes(tensor("F8_E4M3", [2], b"ab"))
    with pytest.raises(ValueError, match=r"theirs\.safetensors: 'w' has elements of type F8_E4M3"):
        sg.load_params(path)
    with pytest.raises(ValueError, match=r"'w' has elements of type .*make them float64"):
        sg.save_params(path, {"w": np.ones(2, np.longdouble)})


def test_one_array_is_no_npz(tmp_path: Path) -> None:
    """What numpy.save writes has no names."""
    path = tmp_path / "one.npz"
    with path.open("wb") as file:
        np.save(file, np.ones(2))
    with pytest.raises(ValueError, match="one array without a name"):
        sg.load_params(path)
