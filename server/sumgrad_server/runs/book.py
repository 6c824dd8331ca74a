"""What a run has come to: all of it that outlives the server.

It changes by records alone, in the order of the journal, when they are written as when they are read again: so a run that is resumed is, to the bit, the run
that was interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress, islice
from typing import Any

import numpy as np
from sumgrad_engine.layout import Layout, Vector
from sumgrad_engine.optim import Optimizer
from sumgrad_engine.shapes import size
from sumgrad_engine.types import Array, Shape
from sumgrad_proto.v1 import service_pb2 as wire

from ..faults import DamagedError
from . import records
from .machine import UNBEGUN, Machine, Rules, Seat, State
from .records import Began, GaveUp, Joined, Over, Parts, Record, Stepped
from .specification import optimizer_of, rules_of

OVERHEAD_BYTES = 4096
"""Of a run without parameters."""
LINE_BYTES, COUNT_BYTES = 64, 16
"""Of a line of the ledger without its sums, and of each member in it, at most."""
LINES = "line."
"""What the names of a snapshot's arrays begin with that hold the ledger."""


@dataclass(frozen=True, eq=False)
class Made:
    """How a run was made."""

    id: str
    namespace: str
    name: str
    specification: wire.RunSpecification
    layout: Layout
    created: int  # in seconds since 1970-01-01 UTC

    @cached_property
    def rules(self) -> Rules:
        """What members agreed on."""
        return rules_of(self.specification)

    @cached_property
    def update(self) -> str:
        """Who updates the parameters: "sgd", "adam" or "adamw" here, or "members"."""
        return self.specification.optimizer.WhichOneof("rule") or "members"


@dataclass
class Tally:
    """What a member has contributed to committed steps."""

    steps: int = 0
    samples: int = 0


@dataclass(frozen=True, eq=False)
class Line:
    """The ledger's line of one committed step.

    `members` and `samples`, of one length, are in as few bytes as their numbers take; `sums` are its value and metrics.
    """

    step: int
    attempt: int
    members: Array
    samples: Array
    seconds: float
    sums: Vector


class Shared:
    """Numbers of members, or their samples, of one step after the other: one array for as long as they are the same."""

    def __init__(self, last: Array | None = None) -> None:
        """Goes on with that of the last step."""
        self._array = counts(()) if last is None else last
        self._numbers = tuple(self._array.tolist())

    def array(self, numbers: tuple[int, ...]) -> Array:
        """These numbers."""
        if numbers != self._numbers:
            self._numbers, self._array = numbers, counts(numbers)
        return self._array


@dataclass(eq=False)
class Book:
    """Everything about a run but who is there just now.

    `vector` holds the parameters, one after the other, and is never written to: each step brings another. Where members update the parameters, it holds
    those at which the last step was made, and `gradient` what came of it.
    """

    made: Made
    vector: Vector
    ledger: deque[Line]
    optimizer: Optimizer | None
    state: State = "waiting"
    step: int = 0
    attempt: int = UNBEGUN
    members: tuple[int, ...] = ()
    names: list[str] = field(default_factory=list)  # by number
    tallies: list[Tally] = field(default_factory=list)  # by number
    sessions: dict[int, str] = field(default_factory=dict)  # of those that have seats
    samples: int = 0
    gradient: Vector | None = None
    shared_members: Shared = field(default_factory=Shared)  # of the ledger's lines
    shared_samples: Shared = field(default_factory=Shared)

    @classmethod
    def new(cls, made: Made, vector: Vector, kept: int) -> Book:
        """That of a new run; the ledger keeps the last `kept` steps."""
        return cls(made, vector, deque(maxlen=kept), optimizer_of(made.specification))

    @property
    def nbytes(self) -> int:
        """What it takes in memory, the ledger aside: vectors and how the run was made."""
        made = self.made
        kept = 1 if self.optimizer is None else self.optimizer.kept
        names = sum(len(name.encode()) for name, _ in made.layout.grads + made.layout.metrics)
        return 8 * len(self.vector) * (1 + kept) + made.specification.ByteSize() + names + OVERHEAD_BYTES

    def updated(self, record: Stepped) -> Vector:
        """The parameters after a step, for `apply`. The optimiser has taken the step then: to be asked for once."""
        at = self.vector if record.at is None else record.at
        if self.optimizer is None:
            return at
        with np.errstate(all="ignore"):  # who trains sees what has become of the parameters
            return self.optimizer.step_vector(at, record.vector[len(record.vector) - len(at) :])

    def apply(self, record: Record, updated: Vector | None = None) -> None:
        """What follows from a record: all of it at once, if the parameters after a step are given."""
        match record:
            case Joined(number, name, session):
                self._seat(number, name, session)
            case GaveUp(number):
                self.sessions.pop(number, None)
            case Began(step, attempt, members):
                self._require_step(step)
                self.attempt, self.members = attempt, members
                self.state = "running" if members else "waiting"
            case Stepped():
                self._step(record, self.updated(record) if updated is None else updated)
            case Over(state):
                self.state, self.members = state, ()

    def machine(self, now: float) -> Machine:
        """The state machine of this run as it is, every lease beginning now."""
        seats = {number: Seat(self.names[number], session, now) for number, session in self.sessions.items()}
        names = {name: number for number, name in enumerate(self.names)}
        machine = Machine(self.made.rules, self.state, self.step, self.attempt, self.members, seats, names)
        machine.settle(now)
        return machine

    def _seat(self, number: int, name: str, session: str) -> None:
        if number == len(self.names):
            self.names.append(name)
            self.tallies.append(Tally())
        elif number > len(self.names) or self.names[number] != name:
            raise DamagedError(f"the journal of run {self.made.id} seats {name!r} as number {number}, which it is not")
        self.sessions[number] = session

    def _require_step(self, step: int) -> None:
        if step != self.step:
            raise DamagedError(f"the journal of run {self.made.id} goes on with step {step}, where {self.step} is next")

    def _step(self, record: Stepped, updated: Vector) -> None:
        self._require_step(record.step)
        start = len(record.vector) - len(self.vector)
        self.vector = updated
        if self.optimizer is None:
            self.gradient = record.vector[start:]
        self.ledger.append(self._line(record, record.vector[:start].copy()))
        self._count(record.members, record.samples)
        self.step = record.step + 1
        self.attempt, self.members = (0 if record.next_members else UNBEGUN), record.next_members
        self.state = "running" if self.members else "waiting"
        if self.step == self.made.rules.max_steps:
            self.state = "finished"

    def _line(self, record: Stepped, sums: Vector) -> Line:
        members, samples = self.shared_members.array(record.members), self.shared_samples.array(record.samples)
        return Line(record.step, record.attempt, members, samples, record.seconds, sums)

    def _count(self, members: Sequence[int], samples: Sequence[int]) -> None:
        for number, count in zip(members, samples, strict=True):
            self.tallies[number].steps += 1
            self.tallies[number].samples += count
            self.samples += count

    @property
    def line_bytes(self) -> int:
        """What a line of the ledger may take on the wire, or in a snapshot."""
        return LINE_BYTES + COUNT_BYTES * len(self.names) + 8 * (self.made.layout.width - len(self.vector))

    def since(self, step: int) -> list[Line]:
        """The ledger from this step on, as far back as it is kept."""
        start = step - self.ledger[0].step if self.ledger else 0
        return list(islice(self.ledger, min(max(0, start), len(self.ledger)), None))  # islice takes no number that callers choose

    def snapshot(self) -> Parts:
        """All of it as bytes."""
        made = self.made
        header = {
            "id": made.id,
            "namespace": made.namespace,
            "name": made.name,
            "created": made.created,
            "specification": made.specification.SerializeToString().hex(),
            "metrics": made.layout.metrics,
            "parameters": made.layout.grads,
            "now": [self.state, self.step, self.attempt, self.members, self.samples],
            "members": [(name, tally.steps, tally.samples) for name, tally in zip(self.names, self.tallies, strict=True)],
            "sessions": list(self.sessions.items()),
        }
        arrays: dict[str, Array] = {"vector": self.vector}
        if self.gradient is not None:
            arrays["gradient"] = self.gradient
        arrays |= {f"{LINES}{name}": array for name, array in _packed(list(self.ledger)).items()}
        if self.optimizer is not None:
            arrays |= {f"optimizer.{name}": array for name, array in self.optimizer.state().items()}
        return records.pack(header, arrays)

    @classmethod
    def restored(cls, data: bytes, kept: int) -> Book:
        """What a snapshot holds. Raises DamagedError."""
        header, arrays = records.unpack(data)
        try:
            return _restored(header, arrays, kept)
        except (LookupError, ValueError, TypeError) as error:
            raise DamagedError(f"a snapshot of a run can't be read: {error!r}") from error


def _restored(header: Mapping[str, Any], arrays: Mapping[str, Array], kept: int) -> Book:
    specification = wire.RunSpecification.FromString(bytes.fromhex(header["specification"]))
    layout = Layout(_entries(header["metrics"]), _entries(header["parameters"]))
    made = Made(header["id"], header["namespace"], header["name"], specification, layout, header["created"])
    book = Book.new(made, arrays["vector"], kept)
    book.state, book.step, book.attempt, members, book.samples = header["now"]
    book.members = tuple(members)
    book.names = [name for name, _, _ in header["members"]]
    book.tallies = [Tally(steps, samples) for _, steps, samples in header["members"]]
    book.sessions = dict(header["sessions"])
    book.gradient = arrays.get("gradient")
    book.ledger.extend(_unpacked({name.removeprefix(LINES): array for name, array in arrays.items() if name.startswith(LINES)}))
    if book.ledger:
        last = book.ledger[-1]
        book.shared_members, book.shared_samples = Shared(last.members), Shared(last.samples)
    if book.optimizer is not None:
        prefix = "optimizer."
        book.optimizer.restore({name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)})
    return book


def _packed(lines: Sequence[Line]) -> dict[str, Array]:
    """Lines as arrays."""
    if not lines:
        return {}
    return {
        "step": np.array([line.step for line in lines], np.int64),
        "attempt": np.array([line.attempt for line in lines], np.int64),
        "seconds": np.array([line.seconds for line in lines]),
        "sums": np.stack([line.sums for line in lines]),
        **_once("members", [line.members for line in lines]),
        **_once("samples", [line.samples for line in lines]),
    }


def _unpacked(arrays: Mapping[str, Array]) -> Iterator[Line]:
    """The lines in these arrays."""
    if not arrays:
        return
    steps, attempts, seconds = (arrays[name].tolist() for name in ("step", "attempt", "seconds"))
    for line in zip(steps, attempts, _each("members", arrays), _each("samples", arrays), seconds, arrays["sums"], strict=True):
        yield Line(*line)


def _once(name: str, listed: Sequence[Array]) -> dict[str, Array]:
    """Arrays as one. Those that follow one another and are the same are there once."""
    new = [array is not last for array, last in zip(listed, (None, *listed[:-1]), strict=True)]
    distinct = list(compress(listed, new))
    sizes = np.array([len(array) for array in distinct], np.int64)
    return {name: np.concatenate(distinct), f"{name}.sizes": sizes, f"{name}.which": np.cumsum(new, dtype=np.int64) - 1}


def _each(name: str, arrays: Mapping[str, Array]) -> list[Array]:
    """The arrays that were made one."""
    distinct = np.split(arrays[name], np.cumsum(arrays[f"{name}.sizes"])[:-1])
    return [distinct[which] for which in arrays[f"{name}.which"].tolist()]


def counts(numbers: Sequence[int]) -> Array:
    """Counts in as few bytes each as the largest takes."""
    return np.array(numbers, np.min_scalar_type(max(numbers, default=0)))


def _entries(listed: Sequence[tuple[str, Sequence[int]]]) -> tuple[tuple[str, Shape], ...]:
    return tuple((name, tuple(shape)) for name, shape in listed)


def split(vector: Vector, entries: Sequence[tuple[str, Shape]]) -> dict[str, Array]:
    """The arrays that lie one after another in a flat vector, as views."""
    found: dict[str, Array] = {}
    start = 0
    for name, shape in entries:
        stop = start + size(shape)
        found[name] = vector[start:stop].reshape(shape)
        start = stop
    return found
