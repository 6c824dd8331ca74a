"""The Dask executor: the bits of the processes and of this process, and what is lost costs time alone."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sumgrad as sg
from sumgrad_server import certs
from sumgrad_tests.cluster import Cluster, cluster

pytestmark = [pytest.mark.dask, pytest.mark.slow, pytest.mark.xdist_group("dask")]

SAMPLES = 300_000
CHOICES = {
    "all": slice(None),
    "across pieces": slice(1000, 200_001),
    "one": slice(5, 6),
    "repeats": np.array([7, 7, SAMPLES - 1, 0, 7]),
    "shuffled": np.random.default_rng(1).permutation(SAMPLES)[:5000],
}
LONG_BLOCKS = 4000


def network(reduction: Any = "sum") -> sg.Objective:
    """A network with a penalty and metrics of both kinds."""
    net = sg.nn.MLP(2, [8, 8, 1], seed=3)
    score, label = net(sg.input("x", shape=(2,)))[0], sg.input("y")
    penalty = 1e-3 * sum((sg.sum(sg.square(value)) for value in net.parameters().values()), start=sg.Value(0.0))
    metrics = {"accuracy": score * label > 0.0, "position": sg.input("x", shape=(2,)) * score}
    return sg.Objective(sg.nn.hinge(score, label), penalty=penalty, metrics=metrics, reduction=reduction)


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {"x": generator.normal(size=(SAMPLES, 2)), "y": np.sign(generator.normal(size=SAMPLES))}


def bits(result: Any) -> dict[str, bytes]:
    """Everything that a result holds, to the last bit."""
    arrays = {"value": np.float64(result.value), **result.grads, **{f"metric {name}": value for name, value in result.metrics.items()}}
    return {name: np.asarray(array).tobytes() for name, array in arrays.items()} | {"count": str(result.count).encode()}


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("options", [{}, {"evaluator": "reference"}, {"precision": "f32"}, {"debug": True}], ids=str)
def test_sums_have_the_bits_of_this_process(service: sg.Service, data: Any, reduction: Any, options: Any) -> None:
    """Value, gradients, metrics and penalty, however they are evaluated and reduced."""
    some = {name: values[:20_000] for name, values in data.items()}
    objective = network(reduction)
    found = service.value_and_grad(objective, objective.params, some, **options)
    assert bits(found) == bits(objective.value_and_grad(objective.params, some, **options))


def test_rows_of_datasets_have_the_bits_of_the_arrays(service: sg.Service, data: Any) -> None:
    """Ranges and indices, with repeats; the dataset is held by the workers in pieces."""
    objective, resident = network(), service.upload(data, name="rows", progress=False)
    for name, choice in CHOICES.items():
        chosen = {leaf: values[choice] for leaf, values in data.items()}
        found = service.value_and_grad(objective, objective.params, resident, rows=choice)
        assert bits(found) == bits(objective.value_and_grad(objective.params, chosen)), name


def test_outputs_and_single_expressions(service: sg.Service, data: Any) -> None:
    """Outputs a sample, in order; a graph of Values; some parameters only."""
    x, w = sg.input("x", shape=(2,)), sg.param("w", np.array([0.3, -1.2]))
    outputs = {"score": sg.tanh(x @ w), "right": (x @ w) * sg.input("y") > 0.0}
    there, here = service.evaluate(outputs, {"w": w.data}, data), sg.here.evaluate(outputs, {"w": w.data}, data)
    assert all(there[name].tobytes() == here[name].tobytes() for name in outputs)
    a, b = sg.Value(2.0), sg.Value(-3.0)
    service.backward(a * b + a)
    assert (a.grad, b.grad) == (-2.0, 2.0)
    objective = network()
    found = service.value_and_grad(objective, objective.params, data, wrt="mlp.1.bias")
    assert set(found.grads) == {"mlp.1.bias"}


def test_errors_keep_their_kind_and_place(service: sg.Service) -> None:
    """What a worker of the cluster says of wrong input is what the client hears."""
    x, w = sg.input("x"), sg.param("w", 1.0)
    objective = sg.Objective(sg.log(x * w))
    with pytest.raises(sg.NonFiniteError, match="sample 3"):
        service.value_and_grad(objective, objective.params, {"x": np.array([1.0, 1.0, 1.0, 0.0])}, debug=True)
    index = sg.Objective(sg.take(w * np.arange(3.0), sg.input("k", dtype=int)))
    with pytest.raises(sg.InvalidArgumentError, match="index"):
        service.value_and_grad(index, index.params, {"k": np.array([0, 9])})


@pytest.mark.parametrize("workers", [1, 3])
def test_bits_do_not_depend_on_the_workers(tmp_path: Path, data: Any, workers: int) -> None:
    """One worker and three give what two give, and this process."""
    objective = network()
    with cluster(tmp_path, workers) as made, sg.local(workers=1, timeout=120.0, flags=["--executor", made.address]) as service:
        found = service.value_and_grad(objective, objective.params, data)
    assert bits(found) == bits(objective.value_and_grad(objective.params, data))


class Long:
    """A sum on its way that takes seconds, over a dataset."""

    def __init__(self, service: sg.Service, support: Any, pool: ThreadPoolExecutor) -> None:
        self.objective, self.data = support.slow_objective(), support.slow_samples(LONG_BLOCKS)
        resident = service.upload(self.data, name="long", progress=False)
        self.found: Future[sg.Result] = pool.submit(service.value_and_grad, self.objective, self.objective.params, resident)
        support.wait_until(lambda: any(worker.state == "busy" for worker in service.status().workers), "the cluster to be at work")

    def assert_same_bits(self) -> None:
        assert bits(self.found.result()) == bits(self.objective.value_and_grad(self.objective.params, self.data))


@pytest.mark.parametrize("lost", ["a worker", "all workers", "the scheduler and all workers"])
def test_what_is_lost_in_the_middle_of_a_sum_costs_time_alone(tmp_path: Path, support: Any, lost: str) -> None:
    """Killed while they compute: pieces of the dataset and shards go to others, or to those that come, and the bits are the same."""
    with (
        cluster(tmp_path, 2) as made,
        sg.local(workers=1, timeout=120.0, flags=["--executor", made.address]) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        long = Long(service, support, pool)
        made.kill_workers(1 if lost == "a worker" else None)
        assert not long.found.done(), "the sum was over too soon to be disturbed"
        if "scheduler" in lost:
            made.restart_scheduler()
        if lost != "a worker":
            made.add_workers(2)
        long.assert_same_bits()


def test_deadly_work_is_given_up(tmp_path: Path, support: Any) -> None:
    """A shard whose workers die one after the other fails its request, naming the graph; the next request is answered."""
    with (
        cluster(tmp_path, 1) as made,
        sg.local(workers=1, timeout=120.0, flags=["--executor", made.address]) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        objective, samples = support.slow_objective(4000), support.slow_samples(64)
        found = pool.submit(service.value_and_grad, objective, objective.params, samples)
        while not found.done():
            support.wait_until(
                lambda: found.done() or any(worker.state == "busy" for worker in service.status().workers), "the shard to be at work"
            )
            made.kill_workers()
            support.wait_until(lambda: not service.status().workers, "the loss to be noticed")
            made.add_workers(1)
        with pytest.raises(sg.InternalError, match="workers died, each computing the same part of graph"):
            found.result()
        small = network()
        one = {"x": np.zeros((1, 2)), "y": np.ones(1)}
        assert service.value_and_grad(small, small.params, one).count == 1


def test_cancelled_work_stops(two: Cluster, support: Any) -> None:
    """A client that leaves frees the workers: they stop between blocks, and the next one's sum is done."""
    objective, samples = support.slow_objective(), support.slow_samples(50_000)
    with sg.local(workers=1, timeout=120.0, flags=["--executor", two.address]) as service:
        with pytest.raises(sg.DeadlineExceededError):
            sg.Service.value_and_grad(service, objective, objective.params, samples, timeout=1.0)
        small = network()
        one = {"x": np.zeros((1, 2)), "y": np.ones(1)}
        assert service.value_and_grad(small, small.params, one, timeout=60.0).count == 1
        support.wait_until(lambda: all(worker.state == "idle" for worker in service.status().workers), "the workers to stop")


def test_without_a_cluster_requests_wait(tmp_path: Path, support: Any) -> None:
    """Health says so; when workers come, what was asked is answered. When the server goes first, clients hear that."""
    objective, one = network(), {"x": np.zeros((1, 2)), "y": np.ones(1)}
    with (
        cluster(tmp_path, 0) as made,
        sg.local(workers=1, timeout=120.0, flags=["--executor", made.address]) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        assert service.health() == "NOT_SERVING"
        found = pool.submit(service.value_and_grad, objective, objective.params, one)
        support.wait_until(lambda: service.status().active_requests == 1, "the request to be there")
        made.add_workers(1)
        assert found.result().count == 1
        support.wait_until(lambda: service.health() == "SERVING", "health to say so")


def test_mutual_tls(tmp_path: Path) -> None:
    """With certificates on all sides the sum is made; a server whose certificate is of another authority does not get in."""
    for name in ("ours", "theirs"):
        certs.make(tmp_path / name, ["127.0.0.1"], [], nodes=["cluster"])

    def files(name: str) -> tuple[str, str, str]:
        folder = tmp_path / name
        return str(folder / "ca.pem"), str(folder / "node-cluster.pem"), str(folder / "node-cluster.key")

    ca, cert, key = files("ours")
    objective, one = network(), {"x": np.zeros((1, 2)), "y": np.ones(1)}
    with cluster(tmp_path, 1, tls=["--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key]) as made:
        assert made.address.startswith("tls://")
        with sg.local(workers=1, timeout=120.0, flags=flags(made.address, *files("ours"))) as service:
            assert service.value_and_grad(objective, objective.params, one).count == 1
        with sg.local(workers=1, flags=flags(made.address, *files("theirs"))) as service:
            with pytest.raises(sg.DeadlineExceededError):
                service.value_and_grad(objective, objective.params, one, timeout=3.0)
            assert service.health() == "NOT_SERVING"


def flags(address: str, ca: str, cert: str, key: str) -> list[str]:
    return ["--executor", address, "--executor-tls-ca", ca, "--executor-tls-cert", cert, "--executor-tls-key", key]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--executor", "http://here:1"], "give processes, tcp://host:port or tls://host:port"),
        (["--executor", "tls://here:1"], "needs executor_tls_ca, executor_tls_cert, executor_tls_key too"),
    ],
)
def test_what_can_not_be_an_executor_is_refused_at_the_start(given: list[str], said: str) -> None:
    """With what is wrong, and what to give."""
    with pytest.raises(sg.ServerStartError, match=said):
        sg.local(workers=1, flags=given)
