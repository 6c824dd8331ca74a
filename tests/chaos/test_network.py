"""A network that loses, delays and cuts: the client library repeats what may be repeated, and nobody is told something wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sumgrad
from sumgrad_engine.program import Result
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_tests import load, support
from sumgrad_tests.proxy import Proxy, between
from sumgrad_tests.requests import logistic, samples
from sumgrad_tests.served import served

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("load")]

OBJECTIVE = logistic()
DATA = samples(5000)
MIB = 1 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    with served(tmp_path, "--workers", "2") as made:
        yield made


@pytest.fixture
def proxy(server: Any) -> Iterator[Proxy]:
    with between(server.address) as made:
        yield made


@pytest.fixture
def direct(server: Any) -> Iterator[load.Client]:
    """A connection around the proxy."""
    made = load.Client(server.address)
    yield made
    made.close()


@pytest.fixture
def service(proxy: Proxy) -> Iterator[sumgrad.Service]:
    """The client library, which has registered its graph."""
    with sumgrad.connect(proxy.address, timeout=support.PATIENCE) as made:
        assert_right(made.value_and_grad(OBJECTIVE, OBJECTIVE.params, DATA))
        yield made


def assert_right(result: Result) -> None:
    support.assert_same_bits(result, OBJECTIVE.value_and_grad(OBJECTIVE.params, DATA))


def under_way(service: sumgrad.Service, **options: Any) -> Future[Result]:
    """A call in a thread of its own."""
    with_it = ThreadPoolExecutor(1)
    future = with_it.submit(service.value_and_grad, OBJECTIVE, OBJECTIVE.params, DATA, **options)
    with_it.shutdown(wait=False)
    return future


def test_request_is_lost(service: sumgrad.Service, proxy: Proxy, direct: load.Client) -> None:
    """A request that never arrived is sent again over a new connection, and computed once."""
    done, connections = direct.status().finished_requests, proxy.connections
    proxy.up.set("drop")
    call = under_way(service)
    support.wait_until(lambda: proxy.up.dropped > DATA["y"].nbytes, "the request to be lost")
    assert direct.status().finished_requests == done
    proxy.up.set("pass")
    proxy.cut()
    assert_right(call.result(support.PATIENCE))
    assert direct.status().finished_requests == done + 1
    assert proxy.connections == connections + 1


def test_answer_is_lost(service: sumgrad.Service, proxy: Proxy, direct: load.Client) -> None:
    """When the work was done and the answer lost, the request is sent again: done twice, told once, with the same bits."""
    done = direct.status().finished_requests
    proxy.down.set("drop")
    call = under_way(service)
    support.wait_until(lambda: direct.status().finished_requests == done + 1, "the work to be done")
    support.wait_until(lambda: proxy.down.dropped > 0, "the answer to be lost")
    assert not call.done()
    proxy.down.set("pass")
    proxy.cut()
    assert_right(call.result(support.PATIENCE))
    assert direct.status().finished_requests == done + 2


def test_answer_is_late(service: sumgrad.Service, proxy: Proxy, direct: load.Client) -> None:
    """An answer that takes its time is waited for: the request is not sent twice."""
    done, connections = direct.status().finished_requests, proxy.connections
    proxy.down.set("hold")
    call = under_way(service)
    support.wait_until(lambda: direct.status().finished_requests == done + 1 and proxy.down.held > 0, "the answer to be on its way")
    assert not call.done()
    proxy.down.set("pass")
    assert_right(call.result(support.PATIENCE))
    assert (direct.status().finished_requests, proxy.connections) == (done + 1, connections)


def test_error_to_the_caller_while_the_work_was_done(service: sumgrad.Service, proxy: Proxy, direct: load.Client) -> None:
    """A caller that gave up before the late answer gets its error, and the next call is answered as if nothing had been."""
    done = direct.status().finished_requests
    proxy.down.set("hold")
    call = under_way(service, timeout=0.5)
    assert isinstance(call.exception(support.PATIENCE), sumgrad.DeadlineExceededError)
    support.wait_until(lambda: direct.status().finished_requests == done + 1, "the work to be done")
    proxy.down.set("pass")
    assert_right(service.value_and_grad(OBJECTIVE, OBJECTIVE.params, DATA))
    assert direct.status().finished_requests == done + 2


def test_other_end_is_silent(service: sumgrad.Service, proxy: Proxy) -> None:
    """On a connection that is open and dead a call ends with its deadline; when the network is back, the next one is answered."""
    proxy.up.set("drop")
    proxy.down.set("drop")
    with pytest.raises(sumgrad.DeadlineExceededError):
        service.value_and_grad(OBJECTIVE, OBJECTIVE.params, DATA, timeout=0.5)
    proxy.up.set("pass")
    proxy.down.set("pass")
    proxy.cut()
    assert_right(service.value_and_grad(OBJECTIVE, OBJECTIVE.params, DATA))


def test_upload_breaks_off(service: sumgrad.Service, proxy: Proxy, direct: load.Client) -> None:
    """An upload whose connection is cut in its midst, twice, goes on and is stored once, with the right bytes."""
    data = samples(600_000, seed=11)
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(service.upload, data, name="kept")
        for _ in range(2):
            before = proxy.up.passed
            support.wait_until(lambda b=before: proxy.up.passed > b + MIB, "the upload to be under way")  # type: ignore[misc]
            proxy.cut()
        stored = call.result(support.PATIENCE)
    assert listed(direct) == ["kept"]
    found = service.value_and_grad(OBJECTIVE, OBJECTIVE.params, stored)
    support.assert_same_bits(found, OBJECTIVE.value_and_grad(OBJECTIVE.params, data))


def listed(client: load.Client) -> list[str]:
    """Names of the datasets."""
    answer = client.unary("ListDatasets", wire.ListDatasetsRequest(), wire.ListDatasetsResponse)
    return [dataset.name for dataset in answer.datasets]


def test_network_is_bad_all_the_time(proxy: Proxy, direct: load.Client) -> None:
    """Connections that are cut again and again, in the midst of requests and answers: all calls of four clients are answered with the right bits."""
    answered, enough, wrong = [0], threading.Event(), []

    def ask_on() -> None:
        retry = sumgrad.Retry(attempts=100, first=0.02, longest=0.2)
        with sumgrad.connect(proxy.address, timeout=support.PATIENCE, retry=retry) as service:
            while not enough.is_set():
                try:
                    assert_right(service.value_and_grad(OBJECTIVE, OBJECTIVE.params, DATA))
                    answered[0] += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
                    wrong.append(repr(error))

    clients = [threading.Thread(target=ask_on, daemon=True) for _ in range(4)]
    for client in clients:
        client.start()
    dice = Random(4)
    for _ in range(25):
        wait_for_more(lambda: answered[0], 4, wrong)
        direction, most = dice.choice([(proxy.up, 1 << 16), (proxy.down, 1)])
        direction.set("drop")
        wait_for_more(partial(getattr, direction, "dropped"), dice.randint(1, most), wrong)
        proxy.cut()
        direction.set("pass")
    enough.set()
    for client in clients:
        client.join(support.PATIENCE)
    assert wrong == []
    assert answered[0] >= 100
    assert direct.status().failed_requests == 0


def wait_for_more(count: Callable[[], int], more: int, wrong: list[str]) -> None:
    """Until a count has grown by so much, or something went wrong."""
    before = count()
    support.wait_until(lambda: bool(wrong) or count() >= before + more, "more to happen")
