"""Parameters in files: NumPy's .npz, and .safetensors, which other libraries read and which can hold no code."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["load_params", "save_params"]

SUFFIXES = (".npz", ".safetensors")


def save_params(path: str | os.PathLike[str], params: Mapping[str, ArrayLike]) -> None:
    """Writes arrays by name, whole or not at all, in the format that the suffix says. ValueError for another suffix, OSError."""
    target = _checked(path)
    arrays = {name: np.ascontiguousarray(values).reshape(np.shape(values)) for name, values in params.items()}
    fresh = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        with fresh.open("wb") as file:
            if target.suffix == ".npz":
                np.savez(file, allow_pickle=False, **arrays)
            else:
                from safetensors.numpy import save

                file.write(save(arrays))
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def load_params(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float64]]:
    """Arrays by name, in float64. FileNotFoundError; ValueError names the file if it is no such file, or the array if it holds no numbers."""
    source = _checked(path)
    arrays = _read_npz(source) if source.suffix == ".npz" else _read_safetensors(source)
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{source}: {name!r} has elements of type {array.dtype}, which are no numbers")
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def _read_npz(source: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(source, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
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
