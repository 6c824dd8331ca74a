"""Streams of gradients through a real server: the bits of single calls, in their order, whatever happens to the stream."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sumgrad as sg
from sumgrad.demo.workers import worker_pids

OBJECTIVE = sg.Objective(sg.tanh(sg.input("x") - sg.param("w", 0.5)) ** 2, metrics={"sum": sg.input("x")})
DATA = {"x": np.random.default_rng(0).normal(size=4000)}


def batch(number: int) -> dict[str, Any]:
    """Samples that differ from batch to batch."""
    return {"x": DATA["x"][number * 10 : number * 10 + 700]}


def expected(number: int) -> tuple[float, bytes]:
    """What a batch sums to, in this process."""
    return bits(OBJECTIVE.value_and_grad({"w": 0.1 * number}, batch(number)))


def bits(result: Any) -> tuple[float, bytes]:
    """Value and gradient, to the bit."""
    return result.value, result.grads["w"].tobytes()


@pytest.mark.parametrize("window", [1, 4, 16])
def test_a_stream_gives_what_calls_give(service: sg.Service, window: int) -> None:
    """Every future has the bits of its own batch and parameters."""
    with service.stream(window) as stream:
        futures = [stream.value_and_grad(OBJECTIVE, {"w": 0.1 * number}, batch(number)) for number in range(60)]
        assert [bits(future.result()) for future in futures] == [expected(number) for number in range(60)]


def test_errors_belong_to_their_request(service: sg.Service) -> None:
    """A request that the server refuses is an error of its future; what does not fit is refused before it is sent; the others have their results."""
    bad = sg.Objective(sg.log(sg.input("x")) * sg.param("w", 1.0))
    with service.stream() as stream:
        first = stream.value_and_grad(OBJECTIVE, {"w": 0.0}, batch(0))
        failed = stream.value_and_grad(bad, {"w": 0.0}, {"x": [-1.0]}, debug=True)
        with pytest.raises(sg.InputError):
            stream.value_and_grad(OBJECTIVE, {}, batch(0))
        last = stream.value_and_grad(OBJECTIVE, {"w": 0.1}, batch(1))
        with pytest.raises(sg.NonFiniteError):
            failed.result()
        assert [bits(first.result()), bits(last.result())] == [expected(0), expected(1)]


def test_asyncio_streams_too() -> None:
    """The asyncio stream gives the same, and more requests than its window holds wait for room."""

    async def run() -> list[Any]:
        async with sg.aio.local(workers=1) as service, service.stream(3) as stream:
            futures = [await stream.value_and_grad(OBJECTIVE, {"w": 0.1 * number}, batch(number)) for number in range(20)]
            return [bits(await future) for future in futures]

    assert asyncio.run(run()) == [expected(number) for number in range(20)]


@pytest.mark.chaos
def test_a_stream_outlives_its_server(tmp_path: Path) -> None:
    """The server is killed and started again in the middle of a stream: every request is answered, with its bits."""
    with sg.local(workers=1, state_dir=tmp_path) as first:
        assert first.process is not None
        address = first.process.address
        with sg.connect(address, timeout=120.0, tls=False, retry=sg.Retry(attempts=30)) as service, service.stream(8) as stream:
            futures = [stream.value_and_grad(OBJECTIVE, {"w": 0.1 * number}, batch(number)) for number in range(20)]
            os.kill(first.process.pid, signal.SIGKILL)
            first.process.process.wait()
            with sg.local(workers=1, flags=["--address", address]):
                futures += [stream.value_and_grad(OBJECTIVE, {"w": 0.1 * number}, batch(number)) for number in range(20, 40)]
                assert [bits(future.result(120)) for future in futures] == [expected(number) for number in range(40)]


@pytest.mark.chaos
def test_killed_workers_cost_a_stream_no_bit(service: sg.Service) -> None:
    """Workers die under a stream; it goes on, and nobody notices."""
    assert service.process is not None
    with service.stream(8) as stream:
        futures = []
        for number in range(40):
            futures.append(stream.value_and_grad(OBJECTIVE, {"w": 0.1 * number}, batch(number)))
            if number % 10 == 5:
                os.kill(worker_pids(service.process.pid)[0], signal.SIGKILL)
        assert [bits(future.result()) for future in futures] == [expected(number) for number in range(40)]


@pytest.mark.chaos
def test_the_timeout_of_the_connection_holds_for_streams() -> None:
    """A server that stands still is a DeadlineExceededError of its futures, blocking and asyncio, and not for ever."""
    with sg.local(workers=1) as server:
        assert server.process is not None
        address, pid = server.process.address, server.process.pid

        async def late() -> None:
            async with sg.aio.connect(address, timeout=1.0, tls=False) as service:
                stream = service.stream()
                future = await stream.value_and_grad(OBJECTIVE, {"w": 0.0}, batch(0))
                assert (await future).count == 700
                os.kill(pid, signal.SIGSTOP)
                with pytest.raises(sg.DeadlineExceededError):
                    await (await stream.value_and_grad(OBJECTIVE, {"w": 0.0}, batch(0)))

        with sg.connect(address, timeout=1.0, tls=False) as service, service.stream() as stream:
            assert stream.value_and_grad(OBJECTIVE, {"w": 0.0}, batch(0)).result().count == 700
            try:
                os.kill(pid, signal.SIGSTOP)
                with pytest.raises(sg.DeadlineExceededError):
                    stream.value_and_grad(OBJECTIVE, {"w": 0.0}, batch(0)).result()
                os.kill(pid, signal.SIGCONT)
                asyncio.run(late())
            finally:
                os.kill(pid, signal.SIGCONT)


def test_giving_up_a_stream(service: sg.Service) -> None:
    """An error in the block ends the stream: what is not answered raises CancelledError, and the connection goes on."""
    futures: list[Any] = []

    def fail() -> None:
        with service.stream() as stream:
            futures.extend(stream.value_and_grad(OBJECTIVE, {"w": 0.0}, DATA) for _ in range(16))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    for future in futures:
        assert future.done()
        assert future.exception() is None or isinstance(future.exception(), sg.CancelledError)
    assert service.value_and_grad(OBJECTIVE, {"w": 0.0}, batch(0)).count == 700


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_fits_with_late_gradients_have_fixed_bits(service: sg.Service, ahead: int) -> None:
    """A fit over a stream ends where the same fit in this process ends, to the bit: on arrays, and on a dataset."""
    dataset = service.upload(DATA, "ahead", replace=True, progress=False)
    sources: list[tuple[Any, Any]] = [(None, DATA), (service, DATA), (service, dataset)]
    fits = [sg.fit(source, OBJECTIVE, data, sg.optim.Adam(0.05), 256, 3, ahead=ahead, progress=False) for source, data in sources]
    assert len({fit.params["w"].tobytes() for fit in fits}) == 1
    assert len({tuple(epoch.value for epoch in fit.history) for fit in fits}) == 1


def test_late_gradients_are_late_by_so_many_steps() -> None:
    """With ahead=2 the first three batches are all taken at the starting parameters, the next one after the first step."""

    class Recorder:
        def __init__(self) -> None:
            self.seen: list[float] = []

        def value_and_grad(self, objective: Any, params: Any, data: Any, **options: Any) -> Any:
            self.seen.append(float(params["w"]))
            return sg.here.value_and_grad(objective, params, data, **options)

    recorder = Recorder()
    sg.fit(recorder, OBJECTIVE, DATA, sg.optim.SGD(0.001), 1000, 1, ahead=2, progress=False)
    assert recorder.seen[:3] == [0.5] * 3
    assert recorder.seen[3] != 0.5


def test_windows_are_counted_from_one(service: sg.Service) -> None:
    """No window is no stream, and nobody is ahead by less than nothing."""
    with pytest.raises(ValueError, match="window"):
        service.stream(0)
    with pytest.raises(ValueError, match="ahead"):
        sg.fit(service, OBJECTIVE, DATA, sg.optim.SGD(0.1), ahead=-1)
