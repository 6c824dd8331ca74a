"""A run at work: carries out what its state machine says, writes everything to the journal before anybody hears of it, and tells the members."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
from sumgrad_engine.errors import LimitError
from sumgrad_engine.layout import Vector
from sumgrad_engine.program import reduced
from sumgrad_engine.types import Array
from sumgrad_proto.v1 import service_pb2 as wire

from ..faults import BrokenRunError, DrainingError, LeftBehindError, NoRoomError, StaleStepError, SupersededError, UnknownRunError
from ..settings import Settings
from ..store.journal import Journal, Snapshot
from ..threads import unblocking
from . import messages
from .book import Book, split
from .desk import Desk
from .gathering import Gathering
from .machine import Begin, Combine, End, Instruction, Left, Machine, Seated, Verdict
from .records import Began, GaveUp, Joined, Over, Parts, Record, Stepped, encode
from .totals import RunTotals

log = logging.getLogger(__name__)

SESSION_BYTES, KNOWN_SESSIONS = 12, 4096
TURN_COPIES = 3
"""Of the parameters, while what tells members of their turn is made."""
Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True, eq=False)
class Part:
    """A contribution: the sum over a member's samples (value, metrics, gradient), how many they are, and the penalty's vector if it was made."""

    vector: Vector
    count: int
    penalty: Vector | None = None


class Run:
    """One run, from when it is made or read again until the server goes. Everything here happens in the event loop."""

    def __init__(
        self, book: Book, index: int, journal: Journal, totals: RunTotals, retry_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`index` is that of the last record in the book."""
        self.book, self.index = book, index
        self.machine: Machine = book.machine(clock())
        self.writing = asyncio.Lock()  # who holds it sees what is on the disk
        self.news: set[asyncio.Event] = set()  # of those who watch
        self.trouble = ""  # why it does not go on
        self.at: Vector | None = None  # where members update the parameters: those of the current attempt
        self._views: tuple[Vector | None, Mapping[str, Array]] = (None, {})  # of parameters, and these by name
        self.gathering: Gathering | None = None  # of small contributions to the current attempt
        self._journal, self._totals, self._retry_seconds, self._clock = journal, totals, retry_seconds, clock
        self._work: set[asyncio.Task[Any]] = set()  # for contributions to the current attempt
        self._desks: dict[int, Desk] = {}
        self._leaving: dict[int, Desk] = {}  # until that is on the disk
        self._seating: dict[str, asyncio.Future[None]] = {}  # by name
        self._sessions: deque[str] = deque(book.sessions.values(), KNOWN_SESSIONS)  # that have, or had, a seat
        self._wake = asyncio.Event()
        self._over = asyncio.Event()  # on the disk
        if self.machine.over:
            self._over.set()
        self._turn = b""
        self._driver = asyncio.create_task(self._drive())
        self._closed: Exception | None = None
        self.broken = False  # after a fault of ours
        if self.machine.members:
            self._turn = messages.turn(self.book)
        self._settled()

    async def join(self, name: str, settings: Settings, session: str = "") -> tuple[int, str]:
        """A seat under this name, on the disk: its number and session, which may be wanted. A run that is over gives none: attaching says what it came to.

        Who has the seat with this session has it still. Raises LimitError if all seats, or all names, are taken.
        """
        session = session or secrets.token_hex(SESSION_BYTES)
        while (before := self._seating.get(name)) is not None:
            await asyncio.shield(before)
        if await self._ended():
            return self.machine.names.get(name, 0), ""
        number = self.machine.names.get(name)
        if number is not None and self.machine.heard(number, session, self._clock()) == "seated":
            return number, session
        if session in self._sessions:
            raise SupersededError("the seat of this session was given up, or taken over: make another session for another seat")
        self._require_place(name, settings)
        self._sessions.append(session)
        seating = self._seating[name] = asyncio.get_running_loop().create_future()
        number = self.machine.join(name, session, self._clock())
        self._close_desk(
            number, SupersededError(f"another process has joined run {self.book.made.name!r} as {name!r}: give each its own name")
        )
        self._settled()
        try:
            await asyncio.shield(seating)
        except asyncio.CancelledError:
            self._take_back(number, session)
            raise
        return number, session

    def _take_back(self, number: int, session: str) -> None:
        """Who has asked for this seat is gone before the answer: others would wait for it for a lease. It may ask again, with the same session."""
        if self.machine.heard(number, session, self._clock()) == "seated":
            self._sessions.remove(session)
            self.leave(number)

    def _require_place(self, name: str, settings: Settings) -> None:
        names, seats, most = self.machine.names, self.machine.seats, settings.max_run_members
        if len(seats) >= most and names.get(name) not in seats:
            said = (
                f"{len(seats)} members have seats in run {self.book.made.name!r}; max_run_members is {most}: join when one of them has left"
            )
            raise LimitError(said, limit="max_run_members", value=len(seats) + 1, allowed=most)
        most = settings.max_run_names
        if name not in names and len(names) >= most:
            said = f"run {self.book.made.name!r} has had members of {len(names)} names; max_run_names is {most}: come back under a name that was there"
            raise LimitError(said, limit="max_run_names", value=len(names) + 1, allowed=most)

    async def attach(self, number: int, session: str, count: int = 0) -> Desk:
        """Where a member's stream, the one of this count, hears what it is to do. Raises SupersededError, LeftBehindError."""
        desk = Desk(number, session, count)
        if await self._ended():
            desk.end(self._ending())
            return desk
        self.heard(number, session)
        superseded = SupersededError("another stream was attached to this seat")
        if (before := self._desks.get(number)) is not None and before.session == session and before.count > count:
            raise superseded
        self._close_desk(number, superseded)
        self._desks[number] = desk
        self.remind(number)
        return desk

    async def _ended(self) -> bool:
        """Whether the run is over, on the disk: it is waited for."""
        self.require_open()
        if self.machine.over:
            await self._over.wait()
            self.require_open()
        return self.machine.over

    def detach(self, desk: Desk) -> None:
        """The stream has ended; the seat remains until the lease runs out."""
        if self._desks.get(desk.number) is desk:
            del self._desks[desk.number]

    def heard(self, number: int, session: str) -> None:
        """A member is there. Raises SupersededError, LeftBehindError."""
        match self.machine.heard(number, session, self._clock()):
            case "left":
                raise self._left_behind()
            case "superseded":
                raise SupersededError(f"another process has joined run {self.book.made.name!r} under the same name: give each its own name")

    def remind(self, number: int) -> None:
        """Tells a member that it is its turn, if it is."""
        desk = self._desks.get(number)
        if desk is not None and self.machine.awaits(number) and not self.machine.busy:
            desk.turn(self._turn)

    def leave(self, number: int) -> None:
        """A member goes, and hears so when it is on the disk."""
        desk = self._desks.pop(number, None)
        if desk is not None:
            self._leaving[number] = desk
        self.machine.leave(number, self._clock())
        self._settled()

    def take(self, number: int, step: int, attempt: int) -> Verdict:
        """What is to be done with a contribution that has come. Raises StaleStepError."""
        verdict = self.machine.take(number, step, attempt, self._clock())
        if verdict == "stale":
            raise self._stale(step, attempt)
        return verdict

    def views(self, vector: Vector) -> Mapping[str, Array]:
        """The parameters in this vector by name: the same object for all who contribute to an attempt."""
        if self._views[0] is not vector:
            self._views = vector, split(vector, self.book.made.layout.grads)
        return self._views[1]

    def require_now(self, step: int, attempt: int) -> None:
        """Raises StaleStepError if this is no longer the attempt."""
        if not self.machine.is_now(step, attempt):
            raise self._stale(step, attempt)

    def _stale(self, step: int, attempt: int) -> StaleStepError:
        machine = self.machine
        said = f"a contribution to step {step}, attempt {attempt}: the run is at step {machine.step}, attempt {machine.attempt}"
        return StaleStepError(said, step=machine.step, attempt=machine.attempt)

    def contributed(self, number: int, step: int, attempt: int, part: Part) -> None:
        """A contribution that was taken is computed."""
        self.machine.contributed(number, step, attempt, part, self._clock())
        self._settled()

    def failed(self, number: int, step: int, attempt: int) -> None:
        """A contribution that was taken has come to nothing."""
        self.machine.failed(number, step, attempt, self._clock())
        if not (self.machine.given or self.machine.taken):
            self.at = None  # they came with what has failed
        self._settled()
        self.remind(number)

    async def during_attempt(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """What some work for the current attempt gives. Raises StaleStepError if the attempt comes to nothing before."""
        task = asyncio.create_task(work)
        self._work.add(task)
        try:
            await asyncio.wait([task])
        finally:
            self._work.discard(task)
            if not task.done():
                await _cancelled(task)
        if task.cancelled():
            raise StaleStepError("a member was lost, and the step has begun anew")
        return task.result()

    def tick(self) -> None:
        """Looks whose time is up."""
        if not (self.machine.over or self._closed):
            self.machine.tick(self._clock())
            self._settled()

    async def stop(self) -> None:
        """Ends the run, on the disk. A step that is on its way there is its last one."""
        self.require_open()
        self.machine.stop()
        self._settled()
        await self._over.wait()
        self.require_open()

    async def close(self) -> None:
        """Ends all streams: the server goes. What is on its way to the disk gets there."""
        self._shut(DrainingError())
        async with self.writing:
            self._driver.cancel()
        await asyncio.wait([self._driver])

    async def forget(self) -> None:
        """Ends the run and what it has come to. Raises NoRoomError, OSError: then it goes on."""
        async with self.writing:
            await self._journal.forget(self.book.made.id)
            self._shut(UnknownRunError(f"run {self.book.made.name!r} was forgotten"))
            self._driver.cancel()
        await asyncio.wait([self._driver])

    async def snapshot(self) -> Snapshot:
        """All that the run is, as it is on the disk. Raises BrokenRunError: then only its journal says."""
        async with self.writing:
            if self.broken:
                raise self._broken()
            nbytes = self.book.nbytes + len(self.book.ledger) * self.book.line_bytes
            return Snapshot(self.index, await unblocking(nbytes, lambda: b"".join(self.book.snapshot())))

    def require_open(self) -> None:
        """Raises what the run was closed with, if it was."""
        if self._closed is not None:
            raise copy(self._closed)  # each time anew: tracebacks grow

    def _shut(self, error: Exception) -> None:
        """All who wait for something get this error."""
        self._forget_attempt()
        self._closed = self._closed or error
        for desk in (*self._desks.values(), *self._leaving.values()):
            desk.close(error)
        self._desks.clear()
        self._leaving.clear()
        for seating in self._seating.values():
            seating.set_exception(error)
            seating.exception()  # nobody may be waiting any more
        self._seating.clear()
        self._over.set()
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        for event in self.news:
            event.set()

    def _left_behind(self) -> LeftBehindError:
        rules = self.machine.rules
        return LeftBehindError(
            f"the seat was given up: nothing was heard for {rules.lease:g} s (lease_seconds; a contribution is heard when all of it is here), "
            f"or a step waited {rules.step_timeout:g} s (step_timeout_seconds): join again"
        )

    def _broken(self) -> BrokenRunError:
        said = f"run {self.book.made.name!r} can't go on after a fault of the server's, of which its log tells: restart the server, or forget the run"
        return BrokenRunError(said)

    def _close_desk(self, number: int, error: Exception) -> None:
        desk = self._desks.pop(number, None)
        if desk is not None:
            desk.close(error)

    def _settled(self) -> None:
        if self.machine.instructions:
            self._wake.set()

    async def _drive(self) -> None:
        """Carries out one instruction after the other. There is no going on after a fault of ours: the journal has what is true."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self.machine.instructions:
                    await self._do(self.machine.instructions.pop(0))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("run %s can't go on", self.book.made.name)
            self.broken = True
            self._shut(self._broken())

    async def _do(self, instruction: Instruction) -> None:
        match instruction:
            case Seated(number, name, session):
                await self._write(Joined(number, name, session))
                seating = self._seating.pop(name, None)
                if seating is not None:  # None: the server goes
                    seating.set_result(None)
            case Begin(step, attempt, members):
                await self._begin(step, attempt, members)
            case Combine():
                await self._combine(instruction)
            case Left(number):
                await self._write(GaveUp(number))
                self._totals.vacated += 1
                self._close_desk(number, self._left_behind())
                if (desk := self._leaving.pop(number, None)) is not None:
                    desk.end(self._ending())
            case End(state):
                if state != self.book.state:
                    await self._write(Over(state))
                self._end()
        self._tell_watchers()

    async def _begin(self, step: int, attempt: int, members: Sequence[int]) -> None:
        self._forget_attempt()
        await self._write(Began(step, attempt, tuple(members)))
        self._totals.repeated += bool(members) and attempt > 0
        await self._make_turn()
        self.machine.began(self._clock())
        self._tell()

    async def _combine(self, todo: Combine) -> None:
        members, parts = tuple(todo.parts), list(todo.parts.values())
        mean = self.book.made.specification.reduction == wire.REDUCTION_MEAN
        vector = await self._patiently(8 * len(parts) * self.book.made.layout.width, combined, parts, mean)
        samples = tuple(part.count for part in parts)
        record = Stepped(todo.step, todo.attempt, members, samples, time.time(), todo.next_members, vector, self.at)
        self._forget_attempt()
        await self._write(record)
        self._totals.stepped(self.book.made.update, sum(samples))
        await self._make_turn()
        self.machine.committed(todo, self._clock())
        self._tell()

    async def _write(self, record: Record) -> None:
        """Brings a record onto the disk, as often as it takes, and into the book."""
        parts = encode(record)
        while not await self._written(record, parts):  # noqa: ASYNC110 - the disk tells nobody that there is room
            await asyncio.sleep(self._retry_seconds)

    async def _written(self, record: Record, parts: Parts) -> bool:
        """Whether there was room for it. If not, all is as before, and others may look at it."""
        async with self.writing:
            try:
                await self._journal.append(self.book.made.id, self.index + 1, parts)
            except (NoRoomError, OSError) as error:
                log.warning("run %s waits for its journal: %s", self.book.made.name, error)
                self.trouble = str(error)
                return False
            updated = None
            if isinstance(record, Stepped):  # which is on the disk: nothing else can be true any more
                updated = await self._patiently(8 * len(self.book.vector), self.book.updated, record)
            self.book.apply(record, updated)
            self.index += 1
        self.trouble = ""
        return True

    async def _patiently(self, nbytes: int, work: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        """What work on so many bytes gives; where there is no memory for it, it is waited for."""
        while True:
            try:
                found = await unblocking(nbytes, work, *args, **kwargs)
            except MemoryError:
                self.trouble = "there is no memory for the next step"
                log.warning("run %s waits: %s", self.book.made.name, self.trouble)
                await asyncio.sleep(self._retry_seconds)
                self.require_open()
            else:
                self.trouble = ""
                return found

    def _forget_attempt(self) -> None:
        """What was kept for the contributions of one attempt."""
        self.at, self._views = None, (None, {})
        for task in self._work:
            task.cancel()
        if self.gathering is not None:
            self.gathering.give_up()
            self.gathering = None

    def all_here(self, numbers: Collection[int]) -> bool:
        """Whether these members of the attempt, and those whose contributions are there already, are all of them."""
        return len(numbers) + len(self.machine.given) == len(self.machine.members)

    async def _make_turn(self) -> None:
        self._turn = await self._patiently(TURN_COPIES * 8 * len(self.book.vector), messages.turn, self.book)

    def _tell(self) -> None:
        """Tells all whose turn it is."""
        for number in self.machine.members:
            self.remind(number)

    def _ending(self) -> bytes:
        return messages.ended(self.book)

    def _end(self) -> None:
        self._forget_attempt()
        for desk in self._desks.values():
            desk.end(self._ending())
        self._desks.clear()
        self._over.set()


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # nobody's any more


def combined(parts: Sequence[Part], mean: bool) -> Vector:
    """The sum over all members' samples, member by member in this order, reduced; and the penalty, once: that of the first member."""
    total = parts[0].vector
    for part in parts[1:]:
        total = total + part.vector
    count, penalty = sum(part.count for part in parts), parts[0].penalty
    if count == 0:
        return np.zeros_like(total) if penalty is None else penalty
    return reduced(total, penalty, count, mean)
