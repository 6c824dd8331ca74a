"""Requests one after the other, for as long as one likes: what server, workers and client hold does not grow with their number.

SUMGRAD_SOAK_REQUESTS says how many; a million takes about half an hour.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import sumgrad
import sumgrad_engine as sg
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_tests import load, support
from sumgrad_tests.processes import anonymous_bytes, descriptors, shared_bytes
from sumgrad_tests.requests import logistic, samples, upload
from sumgrad_tests.served import served

pytestmark = [pytest.mark.soak, pytest.mark.slow, pytest.mark.xdist_group("load")]

REQUESTS = int(os.environ.get("SUMGRAD_SOAK_REQUESTS", "20000"))
LOOKS = 60
"""How often we look at what is held."""
WARM = 0.25
"""The part of all requests after which nothing may grow any more: programs are compiled then, and caches full."""
MIB = 1 << 20
STREAMED = 10
"""Requests of one stream. As many arenas, of two descriptors each, may come to stay whenever two streams meet."""
GROWTH = {"memory": 8 * MIB, "shared memory": 4 * MIB, "descriptors": 2.0 * 2 * STREAMED + 6}
"""By how much a fit through what is held may rise from then to the end, whatever the number of requests."""

OBJECTIVE = logistic()
DATA = samples(40)
ROWS = 4000


@dataclass
class Watched:
    """What the processes held, look by look."""

    pids: dict[str, int]
    seen: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def look(self) -> None:
        """Once."""
        for name, pid in self.pids.items():
            held = {"memory": anonymous_bytes(pid), "shared memory": shared_bytes(pid), "descriptors": descriptors(pid)}
            for what, value in held.items():
                self.seen.setdefault((name, what), []).append(value)

    def growth(self) -> Iterator[tuple[str, str, float]]:
        """How much the straight line through what was seen since WARM rises."""
        for (name, what), values in self.seen.items():
            late = np.array(values[int(WARM * len(values)) :])
            slope = np.polyfit(np.arange(len(late)), late, 1)[0]
            yield name, what, float(slope * (len(late) - 1))


class Requests:
    """What is asked, kind by kind in turn; each answer is compared with what this process computes."""

    def __init__(self, address: str, name: str) -> None:
        self._address, self._name = address, name
        self._raw = load.Client(address)
        self._graph_id = self._raw.register(OBJECTIVE.graph)
        self._expected = OBJECTIVE.value_and_grad(OBJECTIVE.params, DATA)
        data = samples(ROWS, seed=2)
        self._raw.upload(upload(name, data))
        self._by_rows = OBJECTIVE.value_and_grad(OBJECTIVE.params, {name: array[100:1100] for name, array in data.items()})
        self._score = {"score": sg.tanh(sg.input("x", shape=(2,)) @ sg.param("w", OBJECTIVE.params["w"]))}
        self._scores = sumgrad.here.evaluate(self._score, OBJECTIVE.params, DATA)["score"]
        self._service = sumgrad.connect(address, timeout=support.PATIENCE)

    def close(self) -> None:
        self._service.close()
        self._raw.close()

    def ask(self, number: int) -> int:
        """Asks; how many requests that was. Most are gradients; in between come all else, what is refused, and new connections."""
        rare: dict[int, Callable[[int], int]] = {
            3: self._evaluated,
            5: self._refused,
            7: self._from_rows,
            11: self._streamed,
            101: self._registered,
            103: self._expired,
            211: self._connected,
        }
        kind = next((ask for every, ask in rare.items() if number % every == 0), self._gradient)
        return kind(number)

    def _gradient(self, _: int) -> int:
        support.assert_same_bits(self._service.value_and_grad(OBJECTIVE, OBJECTIVE.params, DATA), self._expected)
        return 1

    def _evaluated(self, _: int) -> int:
        found = self._service.evaluate(self._score, {"w": OBJECTIVE.params["w"]}, {"x": DATA["x"]})
        assert found["score"].tobytes() == self._scores.tobytes()
        return 1

    def _refused(self, _: int) -> int:
        assert self._raw.raw_error("Gradient", wire.GradientRequest(graph_id=self._graph_id).SerializeToString()) is not None
        return 1

    def _request(self) -> wire.GradientRequest:
        rows = wire.Rows(range=wire.RowRange(start=100, stop=1100))
        return wire.GradientRequest(graph_id=self._graph_id, parameters=support.named(OBJECTIVE.params), dataset=self._name, rows=rows)

    def _from_rows(self, _: int) -> int:
        answer = self._raw.unary("Gradient", self._request(), wire.GradientResponse)
        support.assert_same_bits(self._raw.result(answer), self._by_rows)
        return 1

    def _streamed(self, _: int) -> int:
        for answer in self._raw.stream([self._request()] * STREAMED):
            support.assert_same_bits(self._raw.result(answer.gradient), self._by_rows)
        return STREAMED

    def _registered(self, number: int) -> int:
        graph = sg.Objective(sg.input("x") * sg.param(f"{self._name}'s {number}", 1.0)).graph
        assert len(self._raw.register(graph)) == 64
        return 1

    def _expired(self, _: int) -> int:
        request = wire.GradientRequest(graph_id=self._graph_id, parameters=support.named(OBJECTIVE.params), dataset=self._name)
        self._raw.future("Gradient", request, wire.GradientResponse, 0.0005).exception()
        return 1

    def _connected(self, number: int) -> int:
        self._service.close()
        self._service = sumgrad.connect(self._address, timeout=support.PATIENCE)
        return self._gradient(number)


def test_nothing_grows(tmp_path: Path) -> None:
    """Memory, shared memory and descriptors of the front, the workers and this client are flat after the warm-up."""
    flags = ("--workers", "2", "--max-graphs", "16", "--log-level", "warning")
    with served(tmp_path, *flags) as server:
        workers = {f"worker {number}": pid for number, pid in enumerate(server.workers())}
        watched = Watched({"front": server.pid, **workers, "client": os.getpid()})
        asked = soaked(server.address, watched)
        assert asked >= REQUESTS
        assert server.workers() == sorted(workers.values())
    too_much = []
    for name, what, growth in watched.growth():
        last = watched.seen[name, what][-1]
        print(
            f"{name:10} {what:14} {last / (MIB if 'memory' in what else 1):8.1f} at the end, a rise of {growth / (MIB if 'memory' in what else 1):+.2f}"
        )
        if growth > GROWTH[what]:
            too_much.append((name, what, growth, watched.seen[name, what]))
    assert too_much == []


def soaked(address: str, watched: Watched) -> int:
    """Asks from two threads and looks at what is held from time to time; how many requests there were."""
    counts, failed = [0, 0], list[BaseException]()

    def ask_on(which: int) -> None:
        number = 0
        try:
            with contextlib.closing(Requests(address, f"soak {which}")) as requests:
                while sum(counts) < REQUESTS and not failed:
                    number += 1
                    counts[which] += requests.ask(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    threads = [threading.Thread(target=ask_on, args=[which]) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for look in range(1, LOOKS + 1):
        goal = look * REQUESTS // LOOKS
        while sum(counts) < goal and any(thread.is_alive() for thread in threads):
            threads[0].join(0.01)
        watched.look()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return sum(counts)
