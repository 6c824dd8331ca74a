"""Training runs on the server: making them, finding them, and asking how they stand. What members do is in member.py."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from sumgrad_engine.errors import InputError
from sumgrad_engine.objective import Objective
from sumgrad_engine.optim import Optimizer
from sumgrad_engine.options import Evaluator, Options, Precision
from sumgrad_engine.program import check_parameters, gradient_layout
from sumgrad_proto.v1 import service_pb2 as wire

from . import calls, codec
from .calls import Deadline, Steps, unary
from .codec import EncodedGraph
from .conversation import Conversation
from .runs import Params, RunInfo, StepRecord, encode_optimizer, read_record, read_run

REDUCTIONS = {"sum": wire.REDUCTION_SUM, "mean": wire.REDUCTION_MEAN}
WISHES = {"auto": wire.EVALUATOR_UNSPECIFIED, "reference": wire.EVALUATOR_REFERENCE, "compiled": wire.EVALUATOR_COMPILED}
PRECISIONS = {"f64": wire.PRECISION_UNSPECIFIED, "f32": wire.PRECISION_F32}


class RunProtocol(Conversation):
    """What concerns runs."""

    def create_run(
        self,
        name: str,
        objective: Objective | None,
        optimizer: Optimizer | None,
        params: Mapping[str, ArrayLike] | None,
        *,
        members: int,
        min_members: int,
        lease: float,
        step_timeout: float,
        max_steps: int | None,
        evaluator: Evaluator,
        precision: Precision,
        timeout: float | None = None,
    ) -> Steps[RunInfo]:
        """Makes a run, or finds the one of this name that was made alike."""
        Options(evaluator, precision)
        for what, count, least in (("members", members, 1), ("min_members", min_members, 1), ("max_steps", max_steps or 0, 0)):
            if count < least:
                raise ValueError(f"{what} must be at least {least}, not {count}")
        deadline = self._deadline(timeout)
        specification = wire.RunSpecification(
            evaluator=WISHES[evaluator],
            precision=PRECISIONS[precision],
            optimizer=encode_optimizer(optimizer) if optimizer is not None else None,
            members=members,
            min_members=min_members,
            lease_seconds=lease,
            step_timeout_seconds=step_timeout,
            max_steps=max_steps or 0,
        )
        request = wire.CreateRunRequest(request_id=self._new_request_id(), name=name, specification=specification)
        if objective is None:
            if not params:
                raise InputError("a run without an objective needs params: what its members train", field="params")
            _add_parameters(request, params)
            return read_run((yield from self._send(calls.CREATE_RUN, unary, request, deadline)).run)
        return (yield from self._created(request, objective, objective.params if params is None else params, deadline))

    def _created(
        self, request: wire.CreateRunRequest, objective: Objective, params: Mapping[str, ArrayLike], deadline: Deadline
    ) -> Steps[RunInfo]:
        gradient_layout(objective.graph)
        graph = self.encoded(objective)
        request.specification.graph_id = graph.id
        request.specification.reduction = REDUCTIONS[objective.reduction]
        check_parameters(graph.graph, {str(name): codec.sendable(values, f"parameters.{name}") for name, values in params.items()})
        _add_parameters(request, params)
        return read_run((yield from self._with_graph(graph, calls.CREATE_RUN, unary, request, deadline)).run)

    def encoded(self, objective: Objective) -> EncodedGraph:
        """The graph of an objective, ready to be sent."""
        return self._encoded.get((objective.graph,), lambda: EncodedGraph.of(objective.graph))

    def register_again(self, objective: Objective, *, timeout: float | None = None) -> Steps[None]:
        """Registers a graph that the server has lost."""
        graph = self.encoded(objective)
        self._registered.discard(graph.id)
        yield from self._register(graph, self._deadline(timeout))

    def join_run(self, run: str, member: str, session: str, *, timeout: float | None = None) -> Steps[tuple[RunInfo, int, str]]:
        """Takes a seat with this session: the run, the member's number, and the session ("" if the run has ended)."""
        request = wire.JoinRunRequest(request_id=self._new_request_id(), run=run, member=member, session=session)
        reply = yield from self._send(calls.JOIN_RUN, unary, request, self._deadline(timeout))
        return read_run(reply.run), reply.number, reply.session

    def runs(self, *, timeout: float | None = None) -> Steps[tuple[RunInfo, ...]]:
        """The runs of the caller's namespace, by name."""
        request = wire.ListRunsRequest(request_id=self._new_request_id())
        reply = yield from self._send(calls.LIST_RUNS, unary, request, self._deadline(timeout))
        return tuple(map(read_run, reply.runs))

    def run_info(self, run: str, *, timeout: float | None = None) -> Steps[RunInfo]:
        """How a run stands. NotFoundError if there is none of this name or id."""
        request = wire.GetRunRequest(request_id=self._new_request_id(), run=run)
        return read_run((yield from self._send(calls.GET_RUN, unary, request, self._deadline(timeout))).run)

    def run_params(self, run: str, *, timeout: float | None = None) -> Steps[Params]:
        """The parameters of a run at its current step."""
        request = wire.GetRunRequest(request_id=self._new_request_id(), run=run, parameters=True)
        return codec.decode_arrays((yield from self._send(calls.GET_RUN, unary, request, self._deadline(timeout))).parameters)

    def run_ledger(self, run: str, from_step: int = 0, *, timeout: float | None = None) -> Steps[tuple[StepRecord, ...]]:
        """The committed steps of a run from one on, as far back as the server keeps them (--max-run-history, 10,000)."""
        request = wire.GetRunRequest(request_id=self._new_request_id(), run=run, ledger_from=from_step)
        reply = yield from self._send(calls.GET_RUN, unary, request, self._deadline(timeout))
        return tuple(map(read_record, reply.ledger))

    def stop_run(self, run: str, *, forget: bool = False, timeout: float | None = None) -> Steps[RunInfo]:
        """Ends a run: a step that is on its way to the disk is its last one. `forget` deletes what it has come to."""
        request = wire.StopRunRequest(request_id=self._new_request_id(), run=run, forget=forget)
        return read_run((yield from self._send(calls.STOP_RUN, unary, request, self._deadline(timeout))).run)


def _add_parameters(request: wire.CreateRunRequest, params: Mapping[str, ArrayLike]) -> None:
    sendable = {str(name): codec.sendable(values, f"parameters.{name}") for name, values in params.items()}
    codec.add_arrays(request.parameters, {name: values.astype(np.float64) for name, values in sendable.items()})
