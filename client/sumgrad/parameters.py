"""Parameters in files: NumPy's .npz, and .safetensors, which other libraries read and which can hold no code."""

from __future__ import annotations

import os
import secrets
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["load_params", "save_params"]

SUFFIXES = (".npz", ".safetensors")
TENSORS = {
    **{f"F{bits}": f"<f{bits // 8}" for bits in (64, 32, 16)},
    **{f"I{bits}": f"<i{bits // 8}" for bits in (64, 32, 16, 8)},
    **{f"U{bits}": f"<u{bits // 8}" for bits in (64, 32, 16, 8)},
    "BOOL": "?",
}
"""Types of elements in .safetensors, and NumPy's."""
RESERVED = "__metadata__"  # the one name in the header of a .safetensors file that is no tensor's


def save_params(path: str | os.PathLike[str], params: Mapping[str, ArrayLike]) -> None:
    """Writes arrays by name, whole or not at all, in the format that the suffix says.

    ValueError for another suffix, for what holds no real numbers and for a name that the format can't keep; OSError.
    """
    target = _checked(path)
    if target.suffix == ".safetensors" and RESERVED in params:
        raise ValueError(f"{target}: a .safetensors file keeps the name {RESERVED!r} for itself: rename the parameter, or write .npz")
    if target.suffix == ".npz":
        _require_whole_names(target, params)
    arrays = {name: _numbers(target, name, np.asarray(values)) for name, values in params.items()}
    fresh = target.with_name(f"{target.name}.{secrets.token_hex(4)}.new")
    try:
        with fresh.open("xb") as file:
            if target.suffix == ".npz":
                _write_npz(file, arrays)
            else:
                from safetensors.numpy import save

                _require_sizes(target, arrays)
                file.write(save({name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def _write_npz(file: BinaryIO, arrays: Mapping[str, NDArray[Any]]) -> None:
    """As numpy.savez does, which takes no parameter of the name "file"."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load_params(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float64]]:
    """Arrays by name, in float64. FileNotFoundError; ValueError names the file if it is no such file, or the array if it holds no numbers."""
    source = _checked(path)
    arrays = _read_npz(source) if source.suffix == ".npz" else _read_safetensors(source)
    return {name: _numbers(source, name, array).astype(np.float64) for name, array in arrays.items()}


def _numbers(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path}: {name!r} has elements of type {array.dtype}, which are no real numbers")
    return array


def _read_npz(source: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with source.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.lib.npyio.NpzFile):
                assert file.zip is not None  # until it is closed
                # By the names of the archive's members: by its own, "x.npy" would be the "x" beside it.
                return {member.removesuffix(".npy"): np.asarray(file[member]) for member in file.zip.namelist()}
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{source} is no .npz file of numbers: {error}") from error
    raise ValueError(f"{source} is no .npz file: it holds one array without a name, as numpy.save writes it")


def _read_safetensors(source: Path) -> dict[str, NDArray[np.generic]]:
    from safetensors import SafetensorError, deserialize

    try:
        found = deserialize(source.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ValueError(f"{source} is no .safetensors file: {error}") from error
    return {name: _tensor(source, name, tensor["dtype"], tensor["data"]).reshape(tensor["shape"]) for name, tensor in found}


def _tensor(source: Path, name: str, kind: str, data: bytes) -> NDArray[np.generic]:
    """A tensor's elements. The upper half of a float32 is a bfloat16, which NumPy does not have."""
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    if kind not in TENSORS:
        raise ValueError(f"{source}: {name!r} has elements of type {kind}, which can't be read: there are {', '.join([*TENSORS, 'BF16'])}")
    return np.frombuffer(data, TENSORS[kind])


def _require_whole_names(target: Path, names: Iterable[str]) -> None:
    for name in names:
        if "\0" in name:
            raise ValueError(f"{target}: a .npz file cuts the name {name!r} at its NUL: rename the parameter, or write .safetensors")


def _require_sizes(target: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    for name, array in arrays.items():
        if array.dtype.itemsize > 8:
            raise ValueError(
                f"{target}: {name!r} has elements of type {array.dtype}, which .safetensors has no room for: make them float64"
            )


def _checked(path: str | os.PathLike[str]) -> Path:
    found = Path(path)
    if found.suffix not in SUFFIXES:
        raise ValueError(f"{found}: parameters are written to and read from files that end in {' or '.join(SUFFIXES)}")
    return found
