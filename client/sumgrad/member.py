"""A member of a training run: what it contributes, step after step, and what comes back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sumgrad_engine.errors import InputError
from sumgrad_engine.objective import Objective
from sumgrad_engine.program import Result
from sumgrad_proto.v1 import service_pb2 as wire
from tqdm.auto import tqdm

from . import codec
from .batches import rows_of, steps_per_epoch
from .errors import AbortedError, DeadlineExceededError, NotFoundError, ResourceExhaustedError, ServiceError, UnavailableError
from .resident import Dataset, RowChoice, chosen_rows, taken_rows, write_rows
from .runs import Params, RunInfo, StepRecord, flat, read_record, split
from .seat import Seat
from .status import from_status

if TYPE_CHECKING:
    from .connection import Service

__all__ = ["Member", "StepResult"]

Arrays: TypeAlias = Mapping[str, ArrayLike]
Make: TypeAlias = Callable[[wire.Turn, int, int], wire.Contribution]
"""The contribution of the member of a rank, of so many, for a turn."""
BUSY_SECONDS = 0.2


@dataclass(frozen=True)
class StepResult:
    """What came of a step, which counts from 0. `value`, `metrics` and `count` are of all members' samples, before the step's update.

    `params` are those after it; of a run whose members update them, those at which it was made, and `grads` is what came of it.
    `samples` says how many each member contributed, by its number.
    """

    step: int
    value: float
    metrics: Mapping[str, NDArray[Any]]
    count: int
    samples: Mapping[int, int]
    params: Params
    grads: Params


@dataclass(frozen=True, eq=False)
class Feed:
    """What `join` was given: samples, and how they are taken. With `own` they are this member's alone, and so are the batches."""

    data: Mapping[str, NDArray[Any]] | Dataset
    samples: int
    batch_size: int | None
    seed: int
    own: bool

    @property
    def epoch_steps(self) -> int:
        """Steps until every sample was taken once."""
        return steps_per_epoch(self.samples, self.batch_size)

    def contribution(self, turn: wire.Turn, rank: int, size: int) -> wire.Contribution:
        """The part of a turn's batch that is this member's."""
        if self.own:
            rank, size = 0, 1
        rows = rows_of(turn.step, rank, size, samples=self.samples, batch_size=self.batch_size, seed=self.seed)
        if not len(rows):
            return wire.Contribution(nothing=wire.Nothing())
        return contribution_of(self.data, slice(int(rows[0]), int(rows[-1]) + 1) if self.batch_size is None else rows)


@dataclass(frozen=True)
class Given:
    """A contribution that is the same whenever it is asked for."""

    message: wire.Contribution

    def __call__(self, turn: wire.Turn, rank: int, size: int) -> wire.Contribution:
        """For any turn."""
        return self.message


@dataclass(frozen=True)
class FedAt:
    """The part of a turn's batch, with the parameters at which it is to be summed."""

    feed: Feed
    parameters: bytes

    def __call__(self, turn: wire.Turn, rank: int, size: int) -> wire.Contribution:
        """For a turn."""
        message = self.feed.contribution(turn, rank, size)
        message.parameters = self.parameters
        return message


@dataclass(frozen=True)
class Owed:
    """What a call has brought for a turn without hearing whether it has counted. It was `refused` if something else was wrong than that time was up."""

    make: Make
    turn: wire.Turn
    refused: bool


def contribution_of(data: Arrays | Dataset | str, rows: RowChoice | None = None) -> wire.Contribution:
    """Samples as a contribution: arrays are sent along, of a dataset its name and rows."""
    message = wire.Contribution()
    if isinstance(data, str | Dataset):
        message.rows.dataset = data if isinstance(data, str) else data.id
        if rows is not None:
            if isinstance(data, str):
                raise InputError("rows of a dataset that is given by its name: pass the Dataset (service.dataset(name))", field="data")
            write_rows(message.rows.rows, chosen_rows(rows, data.sample_count))
        return message
    message.minibatch.SetInParent()
    arrays = data if rows is None else taken_rows(data, rows)
    codec.add_arrays(message.minibatch.inputs, {str(name): codec.sendable(values, f"inputs.{name}") for name, values in arrays.items()})
    return message


class Member:
    """A member of a run, made by `Run.join`, used in a `with` by one thread.

    Lost connections and restarted servers are its own business: it attaches again, and contributes again where that is needed. The server counts each
    contribution once.
    """

    def __init__(
        self, service: Service, run: str, objective: Objective | None, name: str, feed: Feed | None, timeout: float | None
    ) -> None:
        self.name = name
        self._service, self._objective, self._feed = service, objective, feed
        self._seat = Seat(service, run, name, timeout)
        self._turn: wire.Turn | None = None
        self._owed: Owed | None = None
        self._ended: wire.Ended | None = None

    @property
    def info(self) -> RunInfo:
        """The run as it was when this member joined."""
        return self._seat.run

    @property
    def number(self) -> int:
        """Counts from 0; members' sums are added in the order of their numbers."""
        return self._seat.number

    @property
    def epoch_steps(self) -> int:
        """Steps until every sample that this member has joined with was taken once."""
        return self._require_feed().epoch_steps

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self._ended is not None

    @property
    def next_step(self) -> int:
        """The step that this member contributes to next; waits for its turn. Of a run that has ended, how many steps it has made."""
        return self._now().step

    @property
    def params(self) -> Params:
        """The parameters at this member's turn, for which it waits; or those that the run has ended with."""
        return split(self._now().parameters, self.info.shapes)

    @property
    def last(self) -> StepResult | None:
        """What came of the step before this member's turn, for which it waits; None if that is the first.

        Where members update the parameters, one who comes late begins with these parameters and this gradient.
        """
        said = self._now()
        return self._result(read_record(said.committed.record), said) if said.HasField("committed") else None

    def step(self, data: Arrays | Dataset | str | None = None, *, rows: RowChoice | None = None) -> StepResult | None:
        """One step of the run, with these samples of this member; without any, with its part of the data that it has joined with.

        Waits for all members. None if the run has ended before the step was made. Raises ServiceError for samples that do not fit; another call may
        bring others. Raises AbortedError if members update the parameters, and the run has gone on without this one: see `last`.

        After DeadlineExceededError, or Ctrl-C, the samples may count all the same. The same call again waits for that step; a call with others sees to it
        that it is made first, and returns what comes of the next one. So the samples of each call count once. After a ServiceError they count once if the
        same call is made again, and at most once if it is not. AbortedError if the run's ledger no longer goes back to where they may have counted.
        """
        if data is None:
            return self._exchanged(self._require_feed().contribution)
        return self._exchanged(Given(contribution_of(data, rows)))

    def step_gradient(
        self,
        grads: Arrays,
        *,
        value: float = 0.0,
        count: int = 1,
        metrics: Mapping[str, ArrayLike] | None = None,
        params: Arrays | None = None,
    ) -> StepResult | None:
        """One step of the run, with a gradient that was computed here: sums over `count` samples of the loss, without the penalty; of none they are 0.

        If members update the parameters, and the objective has a penalty, `params` says where that is to be counted: all members pass the same.
        """
        if count < 0:
            raise ValueError(f"count is of how many samples the gradient is, not {count}")
        message = wire.Contribution()
        if params is not None:
            message.parameters = flat(params, self.info.shapes, "params")
        message.gradient.value, message.gradient.sample_count = value, count
        message.gradient.gradient = flat(grads, self.info.shapes, "the gradient")
        codec.add_arrays(message.gradient.metrics, {name: np.asarray(values, np.float64) for name, values in (metrics or {}).items()})
        return self._exchanged(Given(message))

    def value_and_grad(
        self, objective: Objective | None, params: Arrays, data: Arrays | Dataset | str | None = None, *, rows: RowChoice | None = None
    ) -> Result:
        """Value, gradient and metrics at `params` over the samples of all members: for a run whose members update the parameters themselves.

        All of them must ask for the same parameters. `data` None is this member's part of the data that it has joined with.
        """
        if self.info.updates:
            raise ValueError("this run updates its parameters itself: use step, or make it with optimizer=None")
        if objective is not None and self._service.protocol.encoded(objective).id != self.info.graph_id:
            raise ValueError("this is another objective than the run's")
        at = flat(params, self.info.shapes, "params")
        if data is None:
            found = self._exchanged(FedAt(self._require_feed(), at))
        else:
            message = contribution_of(data, rows)
            message.parameters = at
            found = self._exchanged(Given(message))
        if found is None:
            raise AbortedError("the run has ended", status="ABORTED")
        return Result(found.value, found.grads, dict(found.metrics), found.count, "unknown")

    def __iter__(self) -> Iterator[StepResult]:
        """Steps with the data that this member has joined with, until the run has ended."""
        while (found := self.step()) is not None:
            yield found

    def train(
        self, steps: int | None = None, *, callback: Callable[[StepResult], object] | None = None, progress: bool = True
    ) -> StepResult | None:
        """Takes steps, as many as that or until the run has ended; returns the last one. A true result of `callback` ends it.

        The bar shows the run's steps.
        """
        last, begin = None, self.next_step
        end = self.info.max_steps if steps is None else begin + steps
        with tqdm(total=end, initial=begin, disable=not progress, unit="step", desc=f"{self.info.name}/{self.name}") as bar:
            for _ in itertools.count() if steps is None else range(steps):
                found = self.step()
                if found is None:
                    break
                last = found
                bar.set_postfix({"value": f"{found.value:.4g}", "members": len(found.samples)}, refresh=False)
                bar.update(found.step + 1 - bar.n)
                if callback is not None and callback(found):
                    break
        return last

    def close(self, *, leave: bool = True) -> None:
        """Ends this member's part. Without `leave` its seat is kept for as long as its lease runs: it may come back under its name."""
        self._seat.close(leave=leave and not self.over)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _require_feed(self) -> Feed:
        if self._feed is None:
            raise ValueError("this member has joined without data: pass samples to each step, or join with data")
        return self._feed

    def _now(self) -> wire.Turn | wire.Ended:
        """The turn of this member, for which it waits, or what the run has ended with."""
        turn = self._awaited()
        if turn is not None:
            return turn
        assert self._ended is not None
        return self._ended

    def _awaited(self) -> wire.Turn | None:
        """The turn of this member; None if the run has ended."""
        while self._turn is None and self._ended is None:
            self._hear(self._seat.receive())
        return self._turn

    def _hear(self, response: wire.StepResponse) -> None:
        """Takes in what the server says. Raises the error that it may be."""
        kind = response.WhichOneof("response")
        if kind == "turn":
            self._turn = response.turn
        elif kind == "ended":
            self._turn, self._ended = None, response.ended
        else:
            self._mend(from_status(response.error.code, response.error.message, response.error.details))

    def _mend(self, error: ServiceError) -> None:
        """Does something about an error that says that a contribution did not count: the turn comes again. Raises it if nothing helps."""
        reason = error.details.get("reason")
        if isinstance(error, NotFoundError) and reason == "UNKNOWN_GRAPH" and self._objective is not None:
            self._seat.ask(partial(self._service.protocol.register_again, self._objective))
        elif isinstance(error, UnavailableError):
            time.sleep(BUSY_SECONDS)
        elif isinstance(error, ResourceExhaustedError) and error.retry_after is not None:
            time.sleep(max(BUSY_SECONDS, error.retry_after))
        elif reason != "STALE_STEP":
            raise error

    def _exchanged(self, make: Make) -> StepResult | None:
        """One step with this contribution, after what an earlier call owes."""
        owed = self._owed
        if owed is None:
            return self._delivered(make)
        if owed.make != make and owed.refused:
            self._pass_over(owed)
            return self._delivered(make)
        late = self._settled(owed)
        if late is None:
            late = self._delivered(owed.make)
        if owed.make == make:
            return late
        if late is not None and not self.info.updates:
            raise _gone_on(late.step)
        return self._delivered(make)

    def _pass_over(self, owed: Owed) -> None:
        """Its caller has heard that something was wrong with it: whether it has counted all the same matters only to who updates the parameters."""
        gone_on = self._now().step > owed.turn.step
        self._owed = None
        if gone_on and not self.info.updates:
            raise _gone_on(owed.turn.step)

    def _settled(self, owed: Owed) -> StepResult | None:
        """What came of the step to which an earlier call has contributed; None if that has not counted: then it is owed still."""
        self._awaited()
        try:
            result = self._counted(owed.turn)
        except AbortedError:  # which says how to begin again
            self._owed = None
            raise
        self._owed = owed if result is None else None
        return result

    def _delivered(self, make: Make) -> StepResult | None:
        """Contributes until a step has counted it, or the run has ended."""
        while (turn := self._awaited()) is not None:
            request, response = self._request(make, turn), None
            try:
                response = self._answer(request, turn)
                self._hear(response)
                result = self._counted(turn)
            except BaseException as error:
                self._note(make, turn, error, told=response is not None and response.HasField("error"))
                raise
            if result is not None:
                self._owed = None
                return result
        self._owed = None
        return None

    def _note(self, make: Make, turn: wire.Turn, error: BaseException, *, told: bool) -> None:
        """Something went wrong with a contribution to a turn: what the next call has to know."""
        self._owed = None
        if told:  # that it has not counted: its turn comes again
            self._turn = turn
            return
        if self._turn is None and self._ended is None:
            self._seat.interrupt()  # the next stream begins with the turn as it is then
        if not isinstance(error, AbortedError):  # which says how to begin again
            self._owed = Owed(make, turn, isinstance(error, ServiceError) and not isinstance(error, DeadlineExceededError))

    def _request(self, make: Make, turn: wire.Turn) -> wire.StepRequest | None:
        """What this member contributes to a turn; None if that was another's, before this seat was lost and taken again."""
        if self.number not in turn.members:
            return None
        request = wire.StepRequest(contribution=make(turn, list(turn.members).index(self.number), len(turn.members)))
        request.contribution.step, request.contribution.attempt = turn.step, turn.attempt
        return request

    def _answer(self, request: wire.StepRequest | None, turn: wire.Turn) -> wire.StepResponse:
        """What the server says to this member's contribution. What it has said of this turn before that came is passed over."""
        stream = self._seat.attachments
        self._turn = None
        if request is not None:
            self._seat.send(request)
        while True:
            response = self._seat.receive()
            if self._seat.attachments != stream or not _is_of(turn, response):
                return response

    def _counted(self, turn: wire.Turn) -> StepResult | None:
        """What came of the step of this turn, if the server has told, and has counted this member's part."""
        said = self._turn if self._turn is not None else self._ended
        if said is None or said.step <= turn.step:
            return None
        missed = said.step > turn.step + 1
        record = self._recorded(turn.step) if missed else read_record(said.committed.record)
        counted = self.number in record.samples
        if not self.info.updates and (missed or not counted):
            if self.over:
                return None
            raise AbortedError(
                f"the run has gone on to step {said.step} without this member, which has not seen all gradients: "
                "begin again with the parameters and the gradient of member.last",
                status="ABORTED",
            )
        return self._result(record, said) if counted else None

    def _recorded(self, step: int) -> StepRecord:
        """A line of the ledger. Raises AbortedError if it goes back no further than to a later one."""
        ledger = self._seat.ask(partial(self._service.protocol.run_ledger, self.info.id, step))
        found = next((line for line in ledger if line.step == step), None)
        if found is None:
            raise AbortedError(
                f"this member was away for so long that the run's ledger (max_run_history) no longer tells what came of step {step}: whether its "
                "samples have counted nobody knows; the same call again contributes them once more",
                status="ABORTED",
            )
        return found

    def _result(self, record: StepRecord, said: wire.Turn | wire.Ended) -> StepResult:
        shapes = self.info.shapes
        grads = split(said.committed.gradient, shapes) if said.committed.gradient else {}
        return StepResult(
            record.step, record.value, record.metrics, record.sample_count, record.samples, split(said.parameters, shapes), grads
        )


def _gone_on(step: int) -> AbortedError:
    return AbortedError(
        f"step {step} was made with what an earlier call has brought, which did not hear of it: "
        "begin again with the parameters and the gradient of member.last",
        status="ABORTED",
    )


def _is_of(turn: wire.Turn, response: wire.StepResponse) -> bool:
    """Whether a response only says that it is this turn now."""
    kind = response.WhichOneof("response")
    if kind == "turn":
        return (response.turn.step, response.turn.attempt) == (turn.step, turn.attempt)
    if kind == "ended":
        return False
    details = from_status(response.error.code, response.error.message, response.error.details).details
    return details.get("reason") == "STALE_STEP" and (details.get("step"), details.get("attempt")) == (str(turn.step), str(turn.attempt))
