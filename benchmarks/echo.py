"""`python -m benchmarks.echo`: a server of the same grpcio that does nothing: sends back what comes, counts it, or waits until all have sent something.

Its first line says the port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

LARGEST = 1 << 28
MEMBERS = 4
"""Streams that a barrier waits for."""
OPTIONS = [("grpc.max_send_message_length", LARGEST), ("grpc.max_receive_message_length", LARGEST)]


async def unary(data: bytes, _: Any) -> bytes:
    """What came."""
    return data


async def stream(requests: AsyncIterator[bytes], context: Any) -> None:
    """What came, one after another."""
    async for data in requests:
        await context.write(data)


async def count(requests: AsyncIterator[bytes], _: Any) -> bytes:
    """How many bytes came."""
    total = 0
    async for data in requests:
        total += len(data)
    return str(total).encode()


class Barrier:
    """Sends back what came when it has come from all of `members` streams: as often as they like."""

    def __init__(self, members: int) -> None:
        self._members, self._arrived = members, 0
        self._all = asyncio.Event()

    async def stream(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """One member's stream."""
        async for data in requests:
            self._arrived += 1
            everybody = self._all
            if self._arrived == self._members:
                self._arrived, self._all = 0, asyncio.Event()
                everybody.set()
            else:
                await everybody.wait()
            await context.write(data)


async def serve() -> None:
    """Serves on a free loopback port until it is killed."""
    server = grpc.aio.server(options=OPTIONS)
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
        "Barrier": grpc.stream_stream_rpc_method_handler(Barrier(MEMBERS).stream),
        "Count": grpc.stream_unary_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", methods),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
