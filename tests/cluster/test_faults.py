"""What is wrong around a Dask cluster: strangers at its address, tasks that can't be sent, and what is left behind on its workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import sumgrad as sg
from distributed import Client
from sumgrad_engine.errors import InputError
from sumgrad_server.cluster.connection import Cluster
from sumgrad_server.cluster.executor import MAX_LOSSES, DaskExecutor
from sumgrad_server.cluster.placement import Placement
from sumgrad_server.faults import WorkersLostError
from sumgrad_server.settings import Settings
from sumgrad_tests import support
from sumgrad_tests.cluster import cluster

pytestmark = [pytest.mark.dask, pytest.mark.slow, pytest.mark.xdist_group("dask")]
SETTINGS = Settings()


def test_parameters_are_those_of_the_request_and_leave_with_it(tmp_path: Path) -> None:
    """Requests with large parameters, one after the other: each is summed at its own, and workers keep nothing of those that are over."""
    size = 20_000
    objective = sg.Objective(sg.input("x") * sg.sum(sg.param("w", np.zeros(size))))
    with cluster(tmp_path, 2) as made, sg.local(workers=1, timeout=support.PATIENCE, flags=["--executor", made.address]) as service:
        for number in range(30):
            found = service.value_and_grad(objective, {"w": np.full(size, float(number))}, {"x": np.ones(3)})
            assert found.value == 3.0 * size * number
        with Client(made.address, set_as_default=False, timeout=support.PATIENCE) as client:
            support.wait_until(lambda: not client.who_has(), "workers that hold nothing")


def test_what_all_workers_hold_counts_for_each() -> None:
    """What was used least recently makes way, and what is forgotten takes no room."""

    class Scattering:
        async def scatter(self, values: list[Any], **options: Any) -> list[Any]:
            return [SimpleNamespace(status="finished", value=value) for value in values]

    async def work() -> None:
        placement, client = Placement(1000), cast(Any, Scattering())
        for key, nbytes in (("a", 400), ("b", 400), ("a", 400), ("c", 600)):
            found = cast(Any, await placement.get(client, key, nbytes, lambda key=key: key))  # type: ignore[misc]
            assert found.value == key
        assert placement.nbytes == 1000
        placement.forget("a")
        placement.forget("b")
        assert placement.nbytes == 600

    asyncio.run(work())


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 503 Service Unavailable\r\n\r\n" + bytes(100))
    await writer.drain()
    writer.close()


async def _junk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x05" + bytes(7) + b"hello" * 100)
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("stranger", [_http, _junk])
def test_what_is_no_scheduler_is_named_and_tried_again(
    stranger: Callable[..., Awaitable[None]], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else answers at the address for a while, as a proxy does: the log says so, and the connection is tried until there is a scheduler."""
    monkeypatch.setattr("sumgrad_server.cluster.connection.ASK_SECONDS", 0.01)
    monkeypatch.setattr("sumgrad_server.cluster.connection.CONNECT_SECONDS", 0.5)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    tries = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        if tries > 5:
            enough.set()
        await stranger(reader, writer)

    async def work() -> None:
        listening = await asyncio.start_server(answer, "127.0.0.1", 0)
        made = Cluster(replace(SETTINGS, executor=f"tcp://127.0.0.1:{listening.sockets[0].getsockname()[1]}"))
        made.start()
        await asyncio.wait_for(enough.wait(), support.PATIENCE)
        assert not made.serving
        made.abort()
        await made.stopped.wait()
        listening.close()

    enough = asyncio.Event()
    asyncio.run(work())
    assert len([record for record in caplog.records if "no connection to the scheduler" in record.message]) == 1


def executor(monkeypatch: pytest.MonkeyPatch) -> DaskExecutor:
    """One whose cluster is connected, and which doesn't pause between tries."""
    monkeypatch.setattr("sumgrad_server.cluster.executor.TRIES_PAUSE", 0.0)

    class Connected(Cluster):
        async def client(self) -> Any:
            return SimpleNamespace(status="running")

    return DaskExecutor(Connected(replace(SETTINGS, executor="tcp://127.0.0.1:1")), SETTINGS)


class Failed:
    """A task that has come to an error on a worker."""

    status = "error"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def done(self) -> bool:
        return True

    def __await__(self) -> Any:
        raise self._error
        yield


@pytest.mark.parametrize(
    ("error", "tries"), [(ValueError("mmap length is greater than file size"), MAX_LOSSES), (InputError("no", field="x"), 1)]
)
def test_what_cannot_be_sent_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, tries: int
) -> None:
    """A piece that can't be read, say: its error is raised and logged, instead of being tried for ever. What is the request's fault is told at once."""
    tried = 0

    async def submit(client: Client) -> Any:
        nonlocal tried
        tried += 1
        raise error

    with pytest.raises(type(error)) as caught:
        asyncio.run(executor(monkeypatch)._answered("graph", submit, []))
    assert (caught.value, tried) == (error, tries)
    assert ("could not be sent" in caplog.text) == (tries > 1)


def test_a_cluster_without_workers_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often there are none to send something to."""
    errors = [TimeoutError("no workers")] * (3 * MAX_LOSSES)

    class Done(Failed):
        status = "finished"

        def __await__(self) -> Any:
            return 7
            yield

    async def submit(client: Client) -> Any:
        if errors:
            raise errors.pop()
        return Done(ValueError())

    assert asyncio.run(executor(monkeypatch)._answered("graph", submit, [])) == 7


def test_what_fails_on_workers_is_said_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk of the workers is no death of theirs."""

    async def submit(client: Client) -> Any:
        return Failed(OSError(28, "No space left on device"))

    with pytest.raises(
        WorkersLostError, match=r"6 tries .* have failed on workers of the cluster, the last one with OSError.*No space left"
    ):
        asyncio.run(executor(monkeypatch)._answered("graph", submit, []))
