"""A training run on a server, as the blocking service has it: `Service.run` and `Service.get_run` make one."""

from __future__ import annotations

import copy
import operator
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import grpc
from numpy.typing import ArrayLike
from sumgrad_engine.objective import Objective
from sumgrad_engine.optim import Optimizer
from sumgrad_engine.program import Result
from sumgrad_proto.v1 import service_pb2 as wire

from . import codec
from .channel import error_of
from .errors import AbortedError, UnavailableError
from .member import Feed, Member, StepResult
from .parameters import save_params
from .resident import Dataset
from .runs import Params, Progress, RunInfo, StepRecord, read_progress
from .training import Epoch, Fit, checked_counts, gathered, sample_count

if TYPE_CHECKING:
    from .connection import Service

__all__ = ["Run"]

WATCH_PAUSE = 0.5
"""Seconds until a lost stream of news is asked for again."""


class Run:
    """A training run. Any number of handles may stand for the same run."""

    def __init__(self, service: Service, name: str, objective: Objective | None = None) -> None:
        self._service, self._objective = service, objective
        self.name = name

    def info(self) -> RunInfo:
        """How it stands."""
        return self._service.carry_out(self._service.protocol.run_info(self.name))

    def params(self) -> Params:
        """The parameters at its current step."""
        return self._service.carry_out(self._service.protocol.run_params(self.name))

    def ledger(self, from_step: int = 0) -> tuple[StepRecord, ...]:
        """Its committed steps, from one on."""
        return self._service.carry_out(self._service.protocol.run_ledger(self.name, from_step))

    def stop(self, *, forget: bool = False) -> RunInfo:
        """Ends it; `forget` also deletes what it has come to."""
        return self._service.carry_out(self._service.protocol.stop_run(self.name, forget=forget))

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes its parameters to a file, .npz or .safetensors by the suffix: `load_params` reads them."""
        save_params(path, self.params())

    def watch(self, from_step: int = 0, *, timeout: float | None = None) -> Iterator[Progress]:
        """How it goes, from now on until it has ended; with the steps from this one on.

        Lost connections are made again, for `timeout` seconds each (None: for ever): then UnavailableError is raised.
        """
        heard = time.monotonic()
        while True:
            request = wire.WatchRunRequest(run=self.name, from_step=from_step)
            try:
                for message in self._service.open_watch(request):
                    progress = read_progress([message])
                    if progress.steps:  # a message has some of them, and may be the last that comes over this connection
                        from_step = progress.steps[-1].step + 1
                    yield progress
                    heard = time.monotonic()
            except grpc.RpcError as refused:
                error = error_of(refused)
                if not isinstance(error, UnavailableError) or (timeout is not None and time.monotonic() - heard > timeout):
                    raise error from None
                time.sleep(WATCH_PAUSE)
            else:
                return

    def join(
        self,
        name: str | None = None,
        *,
        data: Mapping[str, ArrayLike] | Dataset | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        own: bool = False,
        timeout: float | None = None,
    ) -> Member:
        """Takes part in the run, under a name of one's own (None: one that nobody else has). Who comes back under its name has its seat again.

        `data`, arrays with a leading sample axis or an uploaded dataset, is what `step` and `train` take samples from. It is the same for all members:
        in each step they share one batch of `batch_size` samples (None: all samples), in an order that `seed` decides, whoever they are just then:
        `sumgrad.batches` says who takes what. With `own`, the data is this member's alone: it takes `batch_size` of it in each step.

        `timeout` is how long, in seconds, this member waits for the others and the server (None: for ever). Raises ServiceError; ValueError, TypeError
        for data, or an order, that there can't be.
        """
        feed = None
        if data is not None:
            arrays = (
                data if isinstance(data, Dataset) else {str(key): codec.sendable(values, f"data.{key}") for key, values in data.items()}
            )
            samples = arrays.sample_count if isinstance(arrays, Dataset) else sample_count(arrays)
            checked_counts(1, batch_size)
            feed = Feed(arrays, samples, batch_size, operator.index(seed), own)
        return Member(self._service, self.name, self._objective, name or default_name(), feed, timeout)

    def fitted(
        self,
        objective: Objective,
        data: Mapping[str, ArrayLike] | Dataset,
        optimizer: Optimizer | None,
        batch_size: int | None,
        epochs: int,
        seed: int,
        shown: Callable[[Epoch], None],
        callback: Callable[[Epoch], object] | None,
    ) -> Fit:
        """What `sumgrad.fit` does with a run: takes part in it for so many epochs of the data that all members share, or until it has ended."""
        info = self.info()
        if not info.graph_id:
            raise ValueError(f"run {self.name!r} has no objective, so there is nothing to fit: join it, and use step_gradient")
        if (info.graph_id, info.reduction) != (self._service.protocol.encoded(objective).id, objective.reduction):
            raise ValueError(
                f"run {self.name!r} trains another objective, or reduces it in another way: fit it with the one that it was made with"
            )
        self._objective = objective
        with self.join(data=data, batch_size=batch_size, seed=seed) as member:
            return _Fitting(member, objective, optimizer, shown, callback).fit(epochs)


class _Fitting:
    """One member's fit."""

    def __init__(
        self,
        member: Member,
        objective: Objective,
        optimizer: Optimizer | None,
        shown: Callable[[Epoch], None],
        callback: Callable[[Epoch], object] | None,
    ) -> None:
        if member.info.updates and optimizer is not None:
            raise ValueError("the run has an optimiser already: pass None")
        if not member.info.updates and optimizer is None:
            raise ValueError("the run has no optimiser: pass the one by which its members update")
        self._member, self._objective, self._optimizer = member, objective, optimizer
        self._shown, self._callback = shown, callback
        self._params = self._beginning()

    def _beginning(self) -> Params:
        """The parameters at this member's first step. Raises ValueError if the optimiser would have had to see the steps before."""
        last = self._member.last
        if self._optimizer is None or last is None:
            return self._member.params
        trial = copy.deepcopy(self._optimizer)  # one that is refused is as it was
        trial.steps = last.step  # what its learning rate depends on
        params = {**trial.step(last.params, last.grads)}
        if trial.state().keys() - {"steps"}:
            raise ValueError(
                f"the run is at step {last.step + 1}, and this optimiser's next step depends on those before, which this member has not seen: "
                "take SGD without momentum, or make the run with the optimiser on the server"
            )
        self._optimizer.steps = trial.steps
        return params

    def fit(self, epochs: int) -> Fit:
        """So many epochs, or until the run has ended."""
        history: list[Epoch] = []
        steps = self._member.epoch_steps
        for number in range(1, epochs + 1):
            results = [found for _ in range(steps) if (found := self._step()) is not None]
            if results:
                history.append(gathered(number, results, self._objective.reduction, self._params))
                self._shown(history[-1])
            if len(results) < steps or (self._callback is not None and self._callback(history[-1])):
                break
        return Fit(self._params, tuple(history))

    def _step(self) -> StepResult | Result | None:
        if self._optimizer is None:
            found = self._member.step()
            if found is not None:
                self._params = found.params
            return found
        try:
            result = self._member.value_and_grad(None, self._params)
        except AbortedError:
            if self._member.over:
                return None
            raise
        self._params = {**self._optimizer.step(self._params, result.grads)}
        return result


def default_name() -> str:
    """A name that nobody else has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
