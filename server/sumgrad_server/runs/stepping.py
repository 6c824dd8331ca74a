"""Step: the stream of one member, who is told when it is its turn, and contributes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeAlias

from sumgrad_engine.errors import InputError, SumgradError
from sumgrad_proto.v1 import service_pb2 as wire

from .. import codec, rpc, status
from ..faults import StaleStepError
from ..planning import Asker
from ..rpc import Call, Host, RpcHandler
from ..settings import Settings
from ..stream import stream_error
from .contributions import Contributions
from .desk import Desk
from .run import Part, Run
from .runs import Runs

Requests: TypeAlias = "AsyncIterator[wire.StepRequest | SumgradError]"


class StepMethod:
    """The method."""

    def __init__(self, settings: Settings, runs: Runs, contributions: Contributions) -> None:
        self._settings, self._runs, self._contributions = settings, runs, contributions

    def handlers(self, host: Host) -> dict[str, RpcHandler]:
        """The method by name, as gRPC calls it."""
        return {"Step": rpc.bidirectional(host, "compute", "Step", wire.StepRequest, self.step)}

    async def step(self, call: Call, requests: Requests) -> None:
        """Sends what the desk has, while contributions are read and computed beside it."""
        run, desk = await self._attached(call, requests)
        reading = asyncio.ensure_future(_Member(self._settings, call, run, desk, self._contributions).read(requests))
        try:
            while (message := await desk.next()) is not None:
                codec.within(self._settings.max_message_bytes, "max_message_bytes", len(message), "bytes of the response")
                call.sent_bytes += len(message)
                await call.context.write(message)
        finally:
            run.detach(desk)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    async def _attached(self, call: Call, requests: Requests) -> tuple[Run, Desk]:
        first = await anext(requests, None)
        if isinstance(first, SumgradError):
            raise first
        if first is None or not first.HasField("attach"):
            raise InputError("a stream of steps begins with Attach", field="attach")
        attach = first.attach
        run = self._runs.find(call.principal.namespace, attach.run)
        return run, await run.attach(attach.number, attach.session, attach.count)


class _Member:
    """What one member's stream asks for."""

    def __init__(self, settings: Settings, call: Call, run: Run, desk: Desk, contributions: Contributions) -> None:
        self._settings, self._call, self._run, self._desk, self._contributions = settings, call, run, desk, contributions
        self._asker = Asker(call.client, call.principal.max_queue)

    async def read(self, requests: Requests) -> None:
        """Does what the requests say until there are no more. What goes wrong with the seat ends the stream."""
        try:
            async for request in requests:
                if isinstance(request, SumgradError):
                    self._refuse(request)
                else:
                    self._run.heard(self._desk.number, self._desk.session)
                    await self._do(request)
                await self._desk.heeded()
        except Exception as error:  # noqa: BLE001 - the status table has a row for the rest
            self._desk.close(error)
        else:
            self._desk.close()

    async def _do(self, request: wire.StepRequest) -> None:
        match request.WhichOneof("request"):
            case "contribution":
                await self._contribute(request.contribution)
            case "leave":
                self._run.leave(self._desk.number)
            case "attach":
                self._refuse(InputError("this stream is attached already", field="attach"))

    async def _contribute(self, contribution: wire.Contribution) -> None:
        number, step, attempt = self._desk.number, contribution.step, contribution.attempt
        try:
            verdict = self._run.take(number, step, attempt)
        except StaleStepError as error:
            self._refuse(error)
            self._run.remind(number)
            return
        if verdict == "take":
            part = await self._part(contribution)
            if part is not None:
                self._call.samples += part.count
                self._run.contributed(number, step, attempt, part)
                if self._run.gathering is not None:  # which may have waited for this one
                    await self._run.gathering.look()

    async def _part(self, contribution: wire.Contribution) -> Part | None:
        """The contribution's sum; None if it comes to nothing, which the member and the run are told."""
        number, step, attempt = self._desk.number, contribution.step, contribution.attempt
        try:
            return await self._contributions.part(self._call, self._asker, self._run, contribution, number)
        except asyncio.CancelledError:
            self._run.failed(number, step, attempt)
            raise
        except Exception as error:  # noqa: BLE001 - the status table has a row for the rest
            self._refuse(error)
            self._run.failed(number, step, attempt)
            return None

    def _refuse(self, error: BaseException) -> None:
        refusal = status.refusal(error, "", self._settings.retry_seconds)
        self._desk.note(wire.StepResponse(error=stream_error(refusal, "")).SerializeToString())
