"""Parameters in files: NumPy's .npz, and .safetensors, which other libraries read and which can hold no code."""

from __future__ import annotations

import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["load_params", "save_params"]

SUFFIXES = (".npz", ".safetensors")
RESERVED = "__metadata__"  # the one name in the header of a .safetensors file that is no tensor's


def save_params(path: str | os.PathLike[str], params: Mapping[str, ArrayLike]) -> None:
    """Writes arrays by name, whole or not at all, in the format that the suffix says.

    ValueError for another suffix, for what holds no real numbers and for the one name that .safetensors reserves; OSError.
    """
    target = _checked(path)
    if target.suffix == ".safetensors" and RESERVED in params:
        raise ValueError(f"{target}: a .safetensors file keeps the name {RESERVED!r} for itself: rename the parameter, or write .npz")
    arrays = {name: _numbers(target, name, np.asarray(values)) for name, values in params.items()}
    fresh = target.with_name(f"{target.name}.{secrets.token_hex(4)}.new")
    try:
        with fresh.open("xb") as file:
            if target.suffix == ".npz":
                _write_npz(file, arrays)
            else:
                from safetensors.numpy import save

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
        with source.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{source} is no .npz file of numbers: {error}") from error


def _read_safetensors(source: Path) -> dict[str, NDArray[np.generic]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(source.read_bytes()))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{source} is no .safetensors file: {error}") from error


def _checked(path: str | os.PathLike[str]) -> Path:
    found = Path(path)
    if found.suffix not in SUFFIXES:
        raise ValueError(f"{found}: parameters are written to and read from files that end in {' or '.join(SUFFIXES)}")
    return found
