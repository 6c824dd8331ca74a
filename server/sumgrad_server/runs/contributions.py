"""What members contribute: sums over their samples, computed by the executor or by the members themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import numpy as np
from sumgrad_engine.errors import InputError
from sumgrad_engine.layout import Layout, Vector
from sumgrad_engine.options import Options
from sumgrad_engine.types import Array
from sumgrad_proto.v1 import service_pb2 as wire

from .. import codec
from ..executor import Executor
from ..graphs import StoredGraph
from ..planning import Asker, GradientCall
from ..resident import Datasets, Rows
from ..rpc import Call
from ..settings import Settings
from ..threads import unblocking
from .book import split
from .gathering import Gathering
from .messages import vector_of
from .run import Part, Run

FindGraph = Callable[[Call, str], Awaitable[StoredGraph]]
MAX_SAMPLES = 1 << 32
"""Of a gradient that a member has computed itself: so that no run's count of them outgrows 64 bits."""
Grant = Callable[[int, int, bool], Options]
"""What evaluates: from the wire's evaluator, precision and debug, if this server allows it. Raises InputError."""


class Contributions:
    """Makes the sum of each."""

    def __init__(self, settings: Settings, executor: Executor, find_graph: FindGraph, datasets: Datasets, grant: Grant) -> None:
        self._settings, self._executor = settings, executor
        self._find_graph, self._datasets, self._grant = find_graph, datasets, grant

    async def part(self, call: Call, asker: Asker, run: Run, contribution: wire.Contribution, number: int) -> Part:
        """The sum of a member's contribution; that of the first one comes with the penalty.

        Raises InputError, StaleStepError if its attempt comes to nothing meanwhile, and what the executor raises.
        """
        first = number == run.machine.members[0]
        at = self._parameters(run, contribution)
        kind = contribution.WhichOneof("part")
        if kind == "gradient":
            vector = own_vector(run, contribution.gradient, self._settings)
            return Part(
                vector, contribution.gradient.sample_count, await self._penalty(call, asker, run, contribution, at) if first else None
            )
        if kind == "nothing":
            vector = np.zeros(run.book.made.layout.width)
            return Part(vector, 0, await self._penalty(call, asker, run, contribution, at) if first else None)
        if kind is None:
            raise InputError("a contribution has a minibatch, rows, a gradient or nothing", field="contribution.part")
        return await self._summed(call, asker, run, contribution, at, number)

    async def _summed(self, call: Call, asker: Asker, run: Run, contribution: wire.Contribution, at: Vector, number: int) -> Part:
        specification = run.book.made.specification
        if not specification.graph_id:
            raise InputError("this run has no graph: members send gradients that they have computed", field="contribution")
        graph = await self._find_graph(call, specification.graph_id)
        inputs, rows = await self._samples(call, contribution)
        run.require_now(contribution.step, contribution.attempt)
        options = self._grant(specification.evaluator, specification.precision, False)
        wanted = GradientCall(run.views(at), inputs, rows, None, False, options, asker, apart=True)
        if self._executor.is_light(graph, wanted):
            run.gathering = run.gathering or Gathering(self._executor, run.all_here, run.during_attempt)
            found = await run.gathering.sum(number, graph, wanted)
        else:
            found = await run.during_attempt(self._executor.gradient(graph, wanted))
        return Part(found.vector, found.count, found.penalty)

    async def _samples(self, call: Call, contribution: wire.Contribution) -> tuple[Mapping[str, Array], Rows | None]:
        if contribution.WhichOneof("part") == "minibatch":
            nbytes, given = contribution.ByteSize(), contribution.minibatch.inputs
            return await unblocking(nbytes, codec.decode_arrays, given, "contribution.minibatch.inputs", self._settings), None
        wanted = contribution.rows
        dataset = await self._datasets.open(call.principal.namespace, wanted.dataset)
        return {}, await unblocking(len(wanted.rows.indices.data), codec.decode_rows, wanted.rows, dataset)

    async def _penalty(self, call: Call, asker: Asker, run: Run, contribution: wire.Contribution, at: Vector) -> Vector | None:
        specification = run.book.made.specification
        if not specification.graph_id:
            return None
        graph = await self._find_graph(call, specification.graph_id)
        if not graph.signature.has_penalty:
            return None
        if run.book.optimizer is None and not contribution.parameters:
            said = "members of this run update the parameters: send those at which the objective's penalty is to be counted"
            raise InputError(said, field="contribution.parameters")
        run.require_now(contribution.step, contribution.attempt)
        options = self._grant(specification.evaluator, specification.precision, False)
        return await run.during_attempt(self._executor.penalty(graph, run.views(at), options, asker))

    def _parameters(self, run: Run, contribution: wire.Contribution) -> Vector:
        """Those at which the sum is to be made: the run's or, if members update them, those that all of them send."""
        given = contribution.parameters
        if run.book.optimizer is not None:
            if given:
                raise InputError("this run updates the parameters itself: send none", field="contribution.parameters")
            return run.book.vector
        if not given:
            if contribution.WhichOneof("part") in ("minibatch", "rows"):
                said = "members of this run update the parameters: send those at which the sum is to be made"
                raise InputError(said, field="contribution.parameters")
            return run.book.vector if run.at is None else run.at
        vector = vector_of(given, len(run.book.vector))
        if vector is None:
            said = f"parameters are {len(given)} bytes; this run has {len(run.book.vector)} numbers of 8 bytes"
            raise InputError(said, field="contribution.parameters")
        if run.at is None:
            run.at = vector
        elif run.at.tobytes() != given:
            raise InputError(
                "these are not the parameters that another member has sent for this step: members must update them in the same way, "
                "from the same ones (Turn.parameters and Turn.committed)",
                field="contribution.parameters",
            )
        return run.at


def own_vector(run: Run, gradient: wire.OwnGradient, settings: Settings) -> Vector:
    """A gradient that a member has computed, laid out as a sum. Raises InputError, LimitError."""
    layout, length = run.book.made.layout, len(run.book.vector)
    field = "contribution.gradient"
    slopes = vector_of(gradient.gradient, length)
    if slopes is None:
        said = f"the gradient has {len(gradient.gradient)} bytes; this run has {length} numbers of 8 bytes"
        raise InputError(said, field=f"{field}.gradient")
    if gradient.sample_count > MAX_SAMPLES:
        said = f"the gradient is said to be of {gradient.sample_count:,} samples; at most {MAX_SAMPLES:,} can be counted at a time"
        raise InputError(said, field=f"{field}.sample_count")
    vector = np.empty(layout.width)
    vector[0] = gradient.value
    vector[layout.width - length :] = slopes
    if gradient.metrics or layout.metrics:
        _put_metrics(vector, gradient, layout, settings)
    if not gradient.sample_count and vector.any():
        raise InputError("a gradient of 0 samples is 0: say of how many it is, or send nothing", field=f"{field}.sample_count")
    return vector


def _put_metrics(vector: Vector, gradient: wire.OwnGradient, layout: Layout, settings: Settings) -> None:
    field = "contribution.gradient.metrics"
    metrics, wanted = codec.decode_arrays(gradient.metrics, field, settings), dict(layout.metrics)
    if {name: array.shape for name, array in metrics.items()} != wanted:
        raise InputError(f"the metrics are {sorted(metrics)}; this run has {wanted}", field=field)
    for name, place in split(vector[1:], layout.metrics).items():
        place[...] = metrics[name]
