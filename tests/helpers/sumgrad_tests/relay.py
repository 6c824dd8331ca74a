"""A relay of TCP connections that can be told to delay: run as a script inside a host, with where to listen and where to.

    python relay.py 127.0.0.1:0|unix:PATH HOST:PORT

It prints the address at which it listens. Each line on stdin is a delay in seconds, from now on and in both directions; each is answered with the number of
bytes that were delayed so far. The end of stdin ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

PIECE = 1 << 16


class Relay:
    """All connections, with the delay that they have now."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self.delay = 0.0
        self.delayed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. Both sides see the end of either."""
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(self._host, self._port)
            pumps = [asyncio.ensure_future(self._pump(reader, back)), asyncio.ensure_future(self._pump(there, writer))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
            back.transport.abort()
        writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """One direction. What waits does not keep what comes after it from being read."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.ensure_future(self._send(waiting, sink))
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(PIECE):
                    self.delayed += len(data) if self.delay else 0
                    waiting.put_nowait((asyncio.get_running_loop().time() + self.delay, data))
                waiting.put_nowait((0.0, b""))
                await sending
        finally:
            sending.cancel()

    async def _send(self, waiting: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        """Sends what is due, up to the end, which is empty."""
        while True:
            due, data = await waiting.get()
            if not data:
                return
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            sink.write(data)
            await sink.drain()


async def main(listen: str, target: str) -> None:
    """Listens until stdin ends."""
    relay = Relay(target)
    if listen.startswith("unix:"):
        server: asyncio.Server = await asyncio.start_unix_server(relay.serve, listen.removeprefix("unix:"))
        address = listen
    else:
        host, _, port = listen.rpartition(":")
        server = await asyncio.start_server(relay.serve, host, int(port))
        address = f"{host}:{server.sockets[0].getsockname()[1]}"
    print(address, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        relay.delay = float(line)
        print(relay.delayed, flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
