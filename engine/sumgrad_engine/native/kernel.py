"""A kernel: loaded machine code, the memory that it works in, and the calls."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from ..blocks import BLOCK, TreeSum
from ..errors import Cancelled
from ..types import Array
from . import IndexRangeError
from .artifact import Artifact, Column, Plan
from .driver import RUN_POINTERS
from .machine import Library
from .storage import LANES, POINTERS

Bytes = npt.NDArray[np.uint8]
Stop = Callable[[], bool]


CALL_SECONDS = 0.02
"""How long a call may take between two looks at whether anybody still wants its result."""
FIRST_BLOCK_SECONDS = 1e-3
"""What a block is taken to need before one was timed."""


class Kernel:
    """Compiled code, ready to be called by several threads."""

    def __init__(self, artifact: Artifact) -> None:
        self.plan, self._artifact = artifact.plan, artifact
        self._library = Library(artifact.code)
        prepare = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(POINTERS), ctypes.c_int64, ctypes.c_int64)
        run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(RUN_POINTERS), ctypes.c_int64)
        self._prepare, self._run = prepare(self._library.address("prepare")), run(self._library.address("run"))
        self._constants = aligned(artifact.constants.nbytes)
        self._constants[:] = artifact.constants
        self._idle: list[_Workspace] = []
        self._block_seconds = FIRST_BLOCK_SECONDS

    @property
    def nbytes(self) -> int:
        """Memory that one call works in."""
        return sum(self.plan.nbytes.values()) + _slot_rows(self.plan.call_blocks) * _padded(self.plan.width) * 8

    def sums(self, params: Mapping[str, Array], inputs: Mapping[str, Array], start: int, stop: int, should_stop: Stop) -> Array:
        """The tree sum over the blocks of samples start..stop-1; `start` is the first of a block. Raises Cancelled, IndexRangeError."""
        with _Call(self, params) as call:
            step = self._step()
            if stop - start <= step:
                _go_on(should_stop)
                return self._timed(call, inputs, start, stop, ()).copy()
            total = TreeSum()
            for first in range(start, stop, step):
                _go_on(should_stop)
                total.push(self._timed(call, inputs, first, min(first + step, stop), ()).copy())
            return total.total()

    def _step(self) -> int:
        """Samples in one call, which nobody can stop: as many blocks, a power of two, as took no more than so long when that was measured last."""
        blocks = self.plan.call_blocks
        while blocks > 1 and blocks * self._block_seconds > CALL_SECONDS:
            blocks //= 2
        return blocks * BLOCK

    def _timed(self, call: _Call, inputs: Mapping[str, Array], first: int, last: int, results: Sequence[Array]) -> Array:
        began = time.perf_counter()
        row = call.run(inputs, first, last, results)
        self._block_seconds = (time.perf_counter() - began) * BLOCK / (last - first)
        return row

    def rows(self, params: Mapping[str, Array], inputs: Mapping[str, Array], start: int, stop: int, should_stop: Stop) -> list[Array]:
        """The results of samples start..stop-1, each of shape (stop - start, elements). Raises Cancelled, IndexRangeError."""
        results = [np.empty((stop - start, column.count), column.dtype) for column in self.plan.outputs]
        with _Call(self, params) as call:
            step = self._step()
            for first in range(start, stop, step):
                _go_on(should_stop)
                last = min(first + step, stop)
                self._timed(call, inputs, first, last, [result[first - start : last - start] for result in results])
        return results


class _Workspace:
    """Memory of one call at a time."""

    def __init__(self, kernel: Kernel) -> None:
        plan, artifact = kernel.plan, kernel._artifact
        self.spaces = {name: aligned(nbytes) for name, nbytes in plan.nbytes.items() if name != "constants"}
        self.flags = aligned(64)
        self.flags[:] = 0
        self.slots = np.empty((_slot_rows(plan.call_blocks), _padded(plan.width)))
        self.inputs, self.bases, self.tails = (np.zeros(len(plan.inputs) + 1, np.int64) for _ in range(3))
        self.outputs, self.targets = (np.zeros(len(plan.outputs) + 1, np.int64) for _ in range(2))
        self._padded: list[Array] = []
        places = {
            **{name: space.ctypes.data for name, space in self.spaces.items()},
            "constants": kernel._constants.ctypes.data,
            "tables": artifact.tables.ctypes.data,
            "inputs": self.inputs.ctypes.data,
            "outputs": self.outputs.ctypes.data,
            "flags": self.flags.ctypes.data,
        }
        self.pointers = tuple(places[name] for name in POINTERS)
        self.run_pointers = (*self.pointers, *(array.ctypes.data for array in (self.bases, self.tails, self.targets, self.slots)))
        self.parameters = [
            self.spaces["parameters"][slot.start : slot.start + slot.count * np.dtype(slot.dtype).itemsize].view(slot.dtype)
            for slot in plan.parameters
        ]

    def pad(self, plan: Plan, columns: Sequence[Array]) -> None:
        """Copies the rows of the last block, followed by copies of the last one: lanes without a sample compute what nobody reads."""
        if not self._padded:
            self._padded = [np.empty((BLOCK, *column.shape[1:]), column.dtype) for column in columns]
            self.tails[: len(columns)] = [address(room) for room in self._padded]
        for room, column in zip(self._padded, columns, strict=True):
            last = column[(len(column) - 1) // BLOCK * BLOCK :]
            count = len(last)
            room[:count] = last
            room[count : -(-count // plan.lanes) * plan.lanes] = last[-1]


class _Call:
    """One use of a workspace, with these parameters."""

    def __init__(self, kernel: Kernel, params: Mapping[str, Array]) -> None:
        self.kernel = kernel
        self.workspace = kernel._idle.pop() if kernel._idle else _Workspace(kernel)
        if kernel.plan.single:
            with np.errstate(over="ignore"):  # what f32 can't hold is infinite
                self._fill(params)
        else:
            self._fill(params)
        if kernel.plan.shares:
            kernel._prepare(*self.workspace.pointers, 0, 0)

    def _fill(self, params: Mapping[str, Array]) -> None:
        for slot, room in zip(self.kernel.plan.parameters, self.workspace.parameters, strict=True):
            room[:] = params[slot.name].reshape(-1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kernel._idle.append(self.workspace)

    def run(self, inputs: Mapping[str, Array], start: int, stop: int, results: Sequence[Array]) -> Array:
        """Runs the blocks of samples start..stop-1; the sums are good until the next call."""
        workspace, plan = self.workspace, self.kernel.plan
        columns = [_rows(inputs[column.name], column, start, stop) for column in plan.inputs]
        for number, rows in enumerate(columns):
            workspace.bases[number] = address(rows)
        if (stop - start) % plan.lanes:
            workspace.pad(plan, columns)
        for number, result in enumerate(results):
            workspace.targets[number] = address(result)
        self.kernel._run(*workspace.run_pointers, stop - start)
        if workspace.flags[0]:
            workspace.flags[0] = 0
            raise IndexRangeError
        row: Array = workspace.slots[0, : plan.width]
        return row


def _go_on(should_stop: Stop) -> None:
    """Raises Cancelled if nobody wants the result any more."""
    if should_stop():
        raise Cancelled("the evaluation was stopped")


def address(array: Array) -> int:
    """Where an array's memory begins."""
    found: int = array.__array_interface__["data"][0]
    return found


def _rows(array: Array, column: Column, start: int, stop: int) -> Array:
    """Rows of an input in the type that the code reads."""
    rows = array if start == 0 and stop == len(array) else array[start:stop]
    if rows.dtype.str == column.dtype and rows.flags.c_contiguous:
        return rows
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows, column.dtype)


def aligned(nbytes: int) -> Bytes:
    """Uninitialised memory that starts at a multiple of 64 bytes."""
    raw = np.empty(nbytes + 128, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + nbytes]


def _padded(width: int) -> int:
    return max(LANES, -(-width // LANES) * LANES)


def _slot_rows(blocks: int) -> int:
    """Vectors that are on the stack of the tree sum at most."""
    return blocks.bit_length() + 1
