"""What stands before all methods: callers without a good token are turned away before their message is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from sumgrad_engine.errors import SumgradError

from . import status
from .faults import UnauthenticatedError
from .rpc import Call, Context, Host, RpcHandler


class Gate(grpc.GenericRpcHandler):
    """The methods of one service.

    gRPC reads a request whole, up to max_message_bytes, before it calls the handler of a method that takes one; that of a stream it leaves alone
    until somebody asks. So those who get no further are answered by a handler of streams.
    """

    def __init__(self, service: str, handlers: Mapping[str, RpcHandler], host: Host) -> None:
        self._handlers = {f"/{service}/{name}": handler for name, handler in handlers.items()}
        self._turned_away = {path: _turned_away(path.rpartition("/")[2], host) for path in self._handlers}
        self._authenticator = host.authenticator

    def service(self, handler_call_details: Any) -> RpcHandler | None:
        """What answers a call; None for methods of others."""
        handler = self._handlers.get(handler_call_details.method)
        if handler is None:
            return None
        try:
            self._authenticator.principal(handler_call_details.invocation_metadata or ())
        except UnauthenticatedError:
            return self._turned_away[handler_call_details.method]
        return handler


def _turned_away(name: str, host: Host) -> RpcHandler:
    async def refuse(_: Any, context: Context) -> None:
        call = Call(context, host, name)

        async def reread() -> None:
            raise UnauthenticatedError("the tokens have changed at this moment: try again")

        await call.guarded("read", reread)

    return grpc.stream_stream_rpc_method_handler(refuse)


def reflection_handler(services: tuple[str, ...], host: Host) -> grpc.GenericRpcHandler:
    """gRPC's reflection of these services, for who may read."""
    answers: Any = reflection.aio.ReflectionServicer(services)

    async def reflect(requests: Any, context: Context) -> AsyncIterator[bytes]:
        try:
            host.authenticator.principal(context.invocation_metadata() or ()).require("read")
        except SumgradError as error:
            refusal = status.refusal(error, "", host.settings.retry_seconds)
            await context.abort(refusal.code, refusal.message, (refusal.trailer,))
        async for response in answers.ServerReflectionInfo(requests, context):
            yield response

    handler = grpc.stream_stream_rpc_method_handler(
        reflect, reflection_pb2.ServerReflectionRequest.FromString, reflection_pb2.ServerReflectionResponse.SerializeToString
    )
    return grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, {"ServerReflectionInfo": handler})
