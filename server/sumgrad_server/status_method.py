"""The method GetStatus: what the server is doing, for whoever may read."""

from __future__ import annotations

from sumgrad_proto.v1 import service_pb2 as wire

from . import rpc
from .census import WorkerCensus
from .observe.view import View, together
from .rpc import Call, Host, RpcHandler

_STATES = {"starting": wire.WORKER_STATE_STARTING, "idle": wire.WORKER_STATE_IDLE, "busy": wire.WORKER_STATE_BUSY}


class StatusMethod:
    """Answers from how the server stands. Of datasets, callers hear only of those of their own namespace."""

    def __init__(self, view: View) -> None:
        self._view = view

    def handlers(self, host: Host) -> dict[str, RpcHandler]:
        """The method by name, as gRPC calls it."""
        return {"GetStatus": rpc.unary(host, "read", "GetStatus", wire.GetStatusRequest, self.get_status)}

    async def get_status(self, call: Call, request: wire.GetStatusRequest) -> wire.GetStatusResponse:
        """Workers, queue, totals since the start, and what is held."""
        census = self._view.census()
        datasets = [dataset for dataset in self._view.stores.datasets() if dataset.namespace == call.principal.namespace]
        return wire.GetStatusResponse(
            request_id=request.request_id,
            version=self._view.version,
            uptime_seconds=self._view.uptime,
            draining=self._view.draining,
            workers=[_worker(worker) for worker in sorted(census.workers, key=lambda worker: worker.number)],
            active_requests=census.active_jobs,
            finished_requests=census.totals.jobs_finished,
            failed_requests=census.totals.jobs_failed,
            summed_samples=census.totals.samples,
            worker_restarts=census.totals.worker_restarts,
            graphs=len(self._view.stores.graphs()),
            datasets=len(datasets),
            dataset_bytes=together(datasets),
        )


def _worker(worker: WorkerCensus) -> wire.WorkerStatus:
    return wire.WorkerStatus(number=worker.number, process_id=worker.pid, state=_STATES[worker.state], finished_shards=worker.shards)
