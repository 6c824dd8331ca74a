"""Training runs on a real server: members come, go, come back and come late, and every run is what its ledger says, to the bit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sumgrad as sg
from sumgrad.command import main
from sumgrad_tests import support, training
from sumgrad_tests.served import kill

NAMES = ("ada", "bea", "cleo")
STEPS = 30


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Members at work, which the test waits for."""
    with ThreadPoolExecutor() as pool:
        yield pool


def go(run: Any, name: str, **options: Any) -> sg.StepResult | None:
    """One member's part, until the run has ended."""
    with run.join(
        name, timeout=support.PATIENCE, **{"data": training.data(), "batch_size": training.BATCH, "seed": training.SEED, **options}
    ) as member:
        last: sg.StepResult | None = member.train(progress=False)
        return last


def together(threads: ThreadPoolExecutor, task: Callable[[str], Any], names: tuple[str, ...] = NAMES) -> list[Any]:
    """What the tasks of all members come to."""
    return [future.result(support.PATIENCE) for future in [threads.submit(task, name) for name in names]]


def seated(service: sg.Service, run: Any, *names: str) -> list[sg.Member]:
    """Members that have joined in this order, so that their numbers are known."""
    return [training.join(run, name) for name in names]


def test_three_members_have_the_bits_of_the_ledger(service: sg.Service, threads: ThreadPoolExecutor) -> None:
    """Three members that share each batch end with the parameters that their parts, added in the order of their numbers, come to here."""
    run = training.create(service, "three", STEPS)
    results = together(threads, lambda name: go(run, name))
    ledger = training.check(run, STEPS)
    assert all(training.bits(result.params) == training.bits(run.params()) for result in results)
    assert {result.step for result in results} == {STEPS - 1}
    assert training.account(ledger) == [(record.step, record.value, dict(record.samples)) for record in run.ledger()]
    info = run.info()
    assert (info.state, info.step, info.over, info.last) == ("finished", STEPS, True, ledger[-1])
    assert sum(member.sample_count for member in info.members) == info.sample_count == sum(record.sample_count for record in ledger)


def test_uploaded_data_have_the_bits_of_arrays(service: sg.Service, threads: ThreadPoolExecutor) -> None:
    """Members that name rows of a resident dataset come to what those do that send them."""
    dataset = service.upload(training.data(), "training", progress=False)
    run = training.create(service, "uploaded", STEPS)
    together(threads, lambda name: go(run, name, data=dataset))
    training.check(run, STEPS)


def test_fit_is_a_member(service: sg.Service, threads: ThreadPoolExecutor) -> None:
    """Fits on a run share its batches, and gather the same epochs; the run goes on without them when they have had theirs."""
    run = training.create(service, "fit", 0)

    def fit(name: str) -> sg.Fit:
        return sg.fit(run, training.network(), training.data(), None, training.BATCH, epochs=3, seed=training.SEED, progress=False)

    fits = together(threads, fit)
    assert run.info().step == 15
    training.check(run, 15)
    for found in fits:
        assert training.bits(found.params) == training.bits(run.params())
        assert [epoch.value for epoch in found.history] == [epoch.value for epoch in fits[0].history]
    assert run.info().state == "waiting"
    assert run.stop().state == "stopped"


@pytest.mark.parametrize(
    "make", [lambda: sg.optim.Adam(0.01), lambda: sg.optim.SGD(0.05, momentum=0.9, clip_norm=0.1)], ids=["adam", "sgd"]
)
def test_members_update_as_the_server_would(service: sg.Service, threads: ThreadPoolExecutor, make: Any) -> None:
    """Where members step by an optimiser of their own, the bits are those of a server that has the same one."""
    name = f"apart-{type(make()).__name__}"
    there = service.run(f"{name}-there", training.network(), make(), members=3, max_steps=10)
    together(threads, lambda each: go(there, each))
    run = service.run(f"{name}-here", training.network(), None, members=3, max_steps=10)
    data = training.data()

    def fit(each: str) -> sg.Fit:
        return sg.fit(run, training.network(), data, make(), training.BATCH, epochs=5, seed=training.SEED, progress=False)

    for found in together(threads, fit):
        assert training.bits(found.params) == training.bits(there.params())
        assert sum(1 for epoch in found.history if epoch.value) == 2
    assert [record.value for record in run.ledger()] == [record.value for record in there.ledger()]


def test_fit_says_who_has_the_optimiser(service: sg.Service) -> None:
    """Two optimisers, or none, are errors; so are parameters of a fit's own."""
    objective, data = training.network(), training.data()
    with pytest.raises(ValueError, match="has an optimiser already"):
        sg.fit(service.run("one", objective, training.optimizer()), objective, data, training.optimizer(), progress=False)
    run = service.run("none", objective, None)
    with pytest.raises(ValueError, match="has no optimiser"):
        sg.fit(run, objective, data, None, progress=False)
    with pytest.raises(ValueError, match="its own parameters"):
        sg.fit(run, objective, data, training.optimizer(), params=objective.params, progress=False)


def test_late_member_of_a_run_whose_members_update(service: sg.Service, threads: ThreadPoolExecutor) -> None:
    """Who comes late to a run without optimiser begins with the last step's parameters and gradient, and has the others' parameters from then on."""
    objective, data = training.network(), training.data()
    run = service.run("late-update", objective, None, max_steps=20)

    def fit(name: str) -> sg.Fit:
        return sg.fit(run, objective, data, sg.optim.SGD(0.05), training.BATCH, epochs=9, seed=training.SEED, progress=False)

    with run.join("first", data=data, batch_size=training.BATCH, seed=training.SEED) as first:
        assert first.last is None
        params, optimizer = first.params, sg.optim.SGD(0.05)
        late: Future[sg.Fit] | None = None
        while not first.over:
            result = first.value_and_grad(objective, params)
            params = {**optimizer.step(params, result.grads)}
            if late is None:
                late = threads.submit(fit, "late")
                support.wait_until(lambda: len(run.info().members) == 2, "the late member to join")
        assert first.last is not None
        assert training.bits(first.last.grads) == training.bits(result.grads)
    assert late is not None
    assert training.bits(late.result(support.PATIENCE).params) == training.bits(params)
    assert {tuple(record.samples) for record in run.ledger()} == {(0,), (0, 1)}


def test_own_gradients(service: sg.Service, threads: ThreadPoolExecutor) -> None:
    """A run without objective trains whatever its members compute: their gradients are added in order, and counted."""
    start, rate = {"a": np.zeros((2, 3)), "b": 1.0}, 0.125
    run = service.run("own", None, sg.optim.SGD(rate), params=start, members=2, max_steps=10)
    members = [run.join(name) for name in ("ada", "bea")]

    def slope(step: int, number: int) -> dict[str, Any]:
        dice = np.random.default_rng([step, number])
        return {"a": dice.normal(size=(2, 3)), "b": dice.normal()}

    def part(member: sg.Member) -> Any:
        with member:
            while not member.over:
                step = member.next_step
                found = member.step_gradient(slope(step, member.number), value=float(step), count=member.number + 1)
        return found

    found = [future.result(support.PATIENCE) for future in [threads.submit(part, member) for member in members]]
    expected = {name: np.asarray(value) for name, value in start.items()}
    for step in range(10):
        first, second = slope(step, 0), slope(step, 1)
        expected = {name: expected[name] - rate * (first[name] + second[name]) for name in expected}
    assert training.bits(run.params()) == training.bits(expected) == training.bits(found[0].params)
    assert [(record.value, dict(record.samples)) for record in run.ledger()] == [(2.0 * step, {0: 1, 1: 2}) for step in range(10)]


def test_samples_for_each_step(service: sg.Service, threads: ThreadPoolExecutor) -> None:
    """Members may hand different samples to each step; the step is of all of them."""
    objective, data = training.network(), training.data()
    run = service.run("handed", objective, sg.optim.SGD(0.1), members=2, max_steps=1)
    members = [run.join(name) for name in ("ada", "bea")]
    dataset = service.upload(data, "handed", progress=False)
    futures = [
        threads.submit(members[0].step, {name: array[:100] for name, array in data.items()}),
        threads.submit(members[1].step, dataset, rows=slice(100, 300)),
    ]
    found = [future.result(support.PATIENCE) for future in futures]
    expected = sg.here.value_and_grad(objective, objective.params, data, rows=slice(300))
    assert found[0].count == 300
    assert found[0].value == pytest.approx(expected.value, rel=1e-13)
    assert found[0].metrics["right"] == pytest.approx(expected.metrics["right"], rel=1e-13)
    for member in members:
        member.close()


def test_data_of_ones_own(service: sg.Service, threads: ThreadPoolExecutor) -> None:
    """Members with samples that only they have take so many of them in each step, however many members there are."""
    x, w = sg.input("x"), sg.param("w", 0.0)
    run = service.run("owned", sg.Objective(w * x), sg.optim.SGD(1.0), members=2, max_steps=6)
    members = [
        run.join(name, data={"x": np.arange(1.0, 10.0) * 10.0**number}, batch_size=3, seed=number, own=True)
        for number, name in enumerate("ab")
    ]

    def train(member: sg.Member) -> int:
        with member:
            member.train(progress=False)
            return member.epoch_steps

    assert together(threads, lambda name: train(members["ab".index(name)]), ("a", "b")) == [3, 3]
    assert [dict(record.samples) for record in run.ledger()] == [{0: 3, 1: 3}] * 6
    assert run.params()["w"] == -2.0 * 45.0 * 11.0


def test_late_members_and_leavers(service: sg.Service, threads: ThreadPoolExecutor) -> None:
    """Who comes late takes part from the next step on, who leaves does not any more; every batch is covered once all the same."""
    run = training.create(service, "moving", 0, members=1)
    joined, left = threading.Event(), threading.Event()

    def late() -> None:
        with training.join(run, "late") as member:
            joined.set()
            member.train(5, progress=False)
        left.set()

    with training.join(run, "first") as member:
        member.train(5, progress=False)
        future = threads.submit(late)
        assert joined.wait(support.PATIENCE)
        while not left.is_set():
            member.step()
        member.train(5, progress=False)
    future.result(support.PATIENCE)
    ledger = training.check(run, run.info().step)
    parts = [set(record.samples) for record in ledger]
    assert parts.count({0, 1}) == 5
    assert parts[:5] == parts[-5:] == [{0}] * 5


def test_member_comes_back_under_its_name(service: sg.Service) -> None:
    """Who joins again under a name has the same number; the seat that a member has left without leaving waits for it."""
    run = training.create(service, "back", STEPS, members=1)
    with training.join(run, "ada") as member:
        assert (member.number, member.next_step) == (0, 0)
        member.train(3, progress=False)
        member.close(leave=False)
    assert [(each.name, each.state) for each in run.info().members] == [("ada", "working")]
    with training.join(run, "ada") as member:
        assert (member.number, member.next_step) == (0, 3)
        member.train(progress=False)
    training.check(run, STEPS)


def test_superseded(service: sg.Service) -> None:
    """A second process under the same name takes the seat; the first one gets an error that says so, and leaves the seat alone."""
    run = training.create(service, "twice", STEPS, members=1)
    with training.join(run, "ada") as first:
        first.step()
        with training.join(run, "ada") as second:
            with pytest.raises(sg.SupersededError, match="own name"):
                first.train(progress=False)
            assert second.number == first.number
            first.close()
            second.train(progress=False)
    training.check(run, STEPS)


def test_left_behind_joins_again(service: sg.Service) -> None:
    """A member that loses its seat, for letting the others wait, takes part again with its next step."""
    run = training.create(service, "behind", 0, members=2, step_timeout=0.3)
    with training.join(run, "slow") as slow, training.join(run, "quick") as quick:
        assert slow.next_step == 0
        assert quick.train(3, progress=False) is not None
        assert [dict(record.samples).keys() for record in run.ledger()] == [{1}] * 3
        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(slow.step)
            while not future.done():
                quick.step()
            found = future.result()
        assert found is not None
        assert found.step >= 3
        assert slow.number in found.samples
    training.check(run, run.info().step)


def test_wrong_samples_do_not_end_a_member(service: sg.Service) -> None:
    """What does not fit is an error that names it; the next call may do better, and the run has lost nothing."""
    objective = sg.Objective(sg.param("w", 0.0) * sg.input("x"))
    run = service.run("wrong", objective, sg.optim.SGD(0.1), max_steps=4)
    with run.join("ada") as member:
        for bad in ({"y": np.ones(3)}, {"x": np.ones((3, 2))}):
            with pytest.raises(sg.InvalidArgumentError, match="inputs"):
                member.step(bad)
        with pytest.raises(ValueError, match="joined without data"):
            member.step()
        found = [member.step({"x": np.full(3, float(step))}) for step in range(4)]
        assert [(result.step, result.count) for result in found if result is not None] == [(step, 3) for step in range(4)]
        assert member.step({"x": np.ones(3)}) is None
    assert run.params()["w"] == -0.1 * 3.0 - 0.1 * 6.0 - 0.1 * 9.0


def test_what_a_run_does_not_allow(service: sg.Service) -> None:
    """Parameters where the server has them, another objective, and a gradient of another shape are errors that say what to do."""
    objective = sg.Objective(sg.param("w", 0.0) * sg.input("x"))
    data = {"x": np.ones(3)}
    with service.run("updates", objective, sg.optim.SGD(0.1)).join("ada") as member, pytest.raises(ValueError, match="use step"):
        member.value_and_grad(objective, objective.params, data)
    with service.run("bare", objective, None).join("ada") as member:
        with pytest.raises(ValueError, match="another objective"):
            member.value_and_grad(sg.Objective(sg.param("w", 0.0)), objective.params, data)
        with pytest.raises(ValueError, match="'w' of shape"):
            member.step_gradient({"w": np.ones(2)})
        with pytest.raises(ValueError, match="lacks 'w'"):
            member.value_and_grad(None, {}, data)
        assert member.value_and_grad(objective, {"w": 1.0}, data).value == 3.0
    with pytest.raises(ValueError, match="batch_size"):
        service.get_run("bare").join("ada", data=data, batch_size=0)


def test_own_gradients_where_members_update(service: sg.Service) -> None:
    """The penalty is counted at the parameters that the member passes, and a member that passes none is told so."""
    w = sg.param("w", 0.0)
    objective = sg.Objective(w * sg.input("x"), penalty=w * w)
    with service.run("penalised", objective, None).join("ada", timeout=support.PATIENCE) as member:
        with pytest.raises(sg.InvalidArgumentError, match="send those at which"):
            member.step_gradient({"w": 5.0})
        found = member.step_gradient({"w": 5.0}, value=1.0, params={"w": 3.0})
        assert found is not None
        assert (found.value, found.grads["w"], found.params["w"]) == (1.0 + 9.0, 5.0 + 6.0, 3.0)


def test_names_of_runs(service: sg.Service) -> None:
    """A name stands for one run, made alike: another specification is refused by what differs; the same one finds the run."""
    run = training.create(service, "named", STEPS)
    assert training.create(service, "named", STEPS).info().id == run.info().id
    with pytest.raises(sg.AlreadyExistsError, match="max_steps"):
        training.create(service, "named", STEPS + 1)
    assert service.get_run(run.info().id).info().name == "named"
    assert "named" in [info.name for info in service.runs()]
    with pytest.raises(sg.NotFoundError, match="nobody"):
        service.get_run("nobody")
    run.stop(forget=True)
    with pytest.raises(sg.NotFoundError, match="named"):
        run.info()


def test_optimisers_that_cannot_be_sent(service: sg.Service) -> None:
    """A function as a rate, an optimiser of one's own, one that has taken steps, and a run with nothing to train, are errors before anything is sent."""
    objective = training.network()
    with pytest.raises(TypeError, match=r"sg\.optim\.Schedule"):
        service.run("unsent", objective, sg.optim.SGD(lambda step: 0.1))

    class Other(sg.optim.SGD):
        """Another rule."""

    with pytest.raises(ValueError, match="no Other"):
        service.run("unsent", objective, Other(0.1))
    used = sg.optim.SGD(0.1)
    used.step({"w": 1.0}, {"w": 1.0})
    with pytest.raises(ValueError, match="fresh"):
        service.run("unsent", objective, used)
    with pytest.raises(ValueError, match="params"):
        service.run("unsent", None, sg.optim.SGD(0.1))
    assert "unsent" not in [info.name for info in service.runs()]


@pytest.mark.parametrize(
    "make",
    [
        lambda: sg.optim.SGD(sg.optim.Schedule(0.1, 3, sg.optim.StepDecay(0.5, 2)), momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda: sg.optim.Adam(sg.optim.Schedule(0.1, 2, sg.optim.CosineDecay(0.01, 5)), betas=(0.8, 0.99), epsilon=1e-6, weight_decay=0.1),
        lambda: sg.optim.AdamW(sg.optim.Schedule(0.1, 0, sg.optim.LinearDecay(0.01, 5)), weight_decay=0.1, clip_value=0.05),
        lambda: sg.optim.SGD(sg.optim.Schedule(0.1, 0, sg.optim.ExponentialDecay(0.9)), clip_norm=0.5, clip_value=0.1),
    ],
    ids=["nesterov", "adam", "adamw", "clipped"],
)
def test_every_optimiser_steps_there_as_here(service: sg.Service, make: Any, request: pytest.FixtureRequest) -> None:
    """The server's step is that of the same optimiser in this process, to the bit, with its schedule, decay and clipping."""
    objective, data = training.network(), training.data()
    run = service.run(f"step-{request.node.callspec.id}", objective, make(), max_steps=8)
    with run.join("ada", data=data) as member:
        member.train(progress=False)
    assert training.bits(run.params()) == training.bits(sg.fit(None, objective, data, make(), epochs=8, progress=False).params)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_exported_parameters_begin_another_run(service: sg.Service, tmp_path: Path, suffix: str) -> None:
    """What a run is exported to reads back to its bits, and another run can begin there."""
    run = training.create(service, f"exported{suffix}", 5, members=1)
    go(run, "ada")
    run.export(tmp_path / f"model{suffix}")
    params = sg.load_params(tmp_path / f"model{suffix}")
    assert training.bits(params) == training.bits(run.params())
    again = service.run(f"imported{suffix}", training.network(), training.optimizer(), params=params)
    assert training.bits(again.params()) == training.bits(params)


def test_server_is_killed_in_mid_training(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    """After kill -9 the members go on with the next server on the same directory and address, which has lost nothing."""
    state = tmp_path / "state"
    with sg.local(workers=1, state_dir=state) as service:
        assert service.process is not None
        address = service.process.address
        with sg.connect(address, retry=sg.Retry(attempts=100, longest=0.2)) as steady:
            run = training.create(steady, "killed", 60)
            reached, resumed = threading.Event(), threading.Event()

            def train(name: str) -> None:
                with training.join(run, name) as member:
                    member.train(20, progress=False)
                    reached.set()
                    assert resumed.wait(support.PATIENCE)
                    member.train(progress=False)

            futures = [threads.submit(train, name) for name in NAMES]
            assert reached.wait(support.PATIENCE)
            os.kill(service.process.pid, signal.SIGKILL)
            service.process.process.wait()
            with sg.local(workers=1, state_dir=state, flags=["--address", address]):
                resumed.set()
                for future in futures:
                    future.result(support.PATIENCE)
                training.check(run, 60)
                assert training.bits(run.params()) == training.bits(training.undisturbed(60).params)


def test_nobody_comes(service: sg.Service) -> None:
    """A member waits for the others as long as it was told to, and may try again."""
    run = training.create(service, "alone", 1, members=2)
    data = {"data": training.data(), "batch_size": training.BATCH, "seed": training.SEED}
    with run.join("ada", timeout=0.3, **data) as member:
        for _ in range(2):
            with pytest.raises(sg.DeadlineExceededError, match=r"timeout=0\.3"):
                member.step()
        with training.join(run, "bea") as other, ThreadPoolExecutor(1) as thread:
            future = thread.submit(other.step)
            found = None
            while found is None:
                with contextlib.suppress(sg.DeadlineExceededError):
                    found = member.step()
            other_found = future.result()
            assert other_found is not None
            assert training.bits(found.params) == training.bits(other_found.params)


def test_server_is_gone(tmp_path: Path) -> None:
    """A member whose server does not come back gives up when its time is over."""
    with sg.local(workers=1) as service:
        assert service.process is not None
        run = training.create(service, "gone", 0, members=1)
        with run.join("ada", data=training.data(), timeout=1.0) as member:
            kill(service.process.pid)
            service.process.process.wait()
            with pytest.raises(sg.DeadlineExceededError, match=r"timeout=1\.0"):
                member.step()


def test_stopped_run_ends_its_members(service: sg.Service, threads: ThreadPoolExecutor) -> None:
    """Members of a run that is stopped end their loop; who joins it afterwards finds it over, with its parameters."""
    run = training.create(service, "stopped", 0, members=1)
    with training.join(run, "ada") as member:
        assert member.step() is not None
        waiting = threads.submit(lambda: [result.step for result in member])
        support.wait_until(lambda: run.info().step > 5, "some steps")
        info = run.stop()
        assert waiting.result(support.PATIENCE) == list(range(1, info.step))
        assert member.over
    with training.join(run, "bea") as late:
        assert late.step() is None
        assert late.next_step == info.step
        assert training.bits(late.params) == training.bits(run.params())


def test_watching(service: sg.Service, threads: ThreadPoolExecutor) -> None:
    """Who watches sees every step, in order, and the end."""
    run = training.create(service, "watched", STEPS)
    seen = threads.submit(lambda: list(run.watch()))
    together(threads, lambda name: go(run, name))
    news = seen.result(support.PATIENCE)
    assert [record for each in news for record in each.steps] == list(run.ledger())
    assert news[-1].info.state == "finished"
    assert [record.step for each in run.watch(STEPS - 2) for record in each.steps] == [STEPS - 2, STEPS - 1]
    assert [record.step for record in run.ledger(STEPS - 2)] == [STEPS - 2, STEPS - 1]


def test_bars(service: sg.Service, capsys: pytest.CaptureFixture[str]) -> None:
    """A member's bar shows the run's steps, its value and how many take part; a true result of the callback ends it."""
    run = training.create(service, "bars", STEPS, members=1)
    with training.join(run, "ada") as member:
        member.train(callback=lambda result: result.step == 9)
        assert member.next_step == 10
    said = capsys.readouterr().err
    assert "bars/ada" in said
    assert f"10/{STEPS}" in said
    assert "members=1" in said


def test_asyncio(service: sg.Service) -> None:
    """The asyncio service lists, shows and stops runs."""
    assert service.process is not None
    address = service.process.address
    run = training.create(service, "async", 3, members=1)
    go(run, "ada")

    async def ask() -> Any:
        async with sg.aio.connect(address) as there:
            names = [info.name for info in await there.runs()]
            found = await there.run_info("async"), await there.run_params("async"), await there.run_ledger("async", 1)
            assert (await there.stop_run("async", forget=True)).state == "finished"
            return names, *found

    names, info, params, ledger = asyncio.run(ask())
    assert "async" in names
    assert (info.step, [record.step for record in ledger]) == (3, [1, 2])
    assert set(params) == set(training.network().params)


def test_commands(service: sg.Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sumgrad runs` lists, shows, watches, exports, stops and forgets."""
    assert service.process is not None
    address = service.process.address
    run = training.create(service, "shell", 0, members=1)
    with training.join(run, "ada") as member:
        member.train(4, progress=False)
        member.close(leave=False)

    def said(*arguments: str) -> str:
        assert main(["runs", address, *arguments]) == 0
        return capsys.readouterr().out

    assert any(line.split()[:3] == ["shell", "running", "4"] for line in said().splitlines())
    assert [info["name"] for info in json.loads(said("list", "--json"))] == [info["name"] for info in json.loads(said("--json", "list"))]
    assert json.loads(said("show", "shell", "--json"))["step"] == 4
    assert said("list") == said()
    assert [info["step"] for info in json.loads(said("--json")) if info["name"] == "shell"] == [4]
    assert "65 parameters in 4 arrays, updated by the server" in said("show", "shell")
    shown = json.loads(said("--json", "show", "shell"))
    assert shown["members"][0]["name"] == "ada"
    assert shown["last"]["samples"] == {"0": 120}
    said("export", "shell", str(tmp_path / "model.safetensors"))
    assert training.bits(sg.load_params(tmp_path / "model.safetensors")) == training.bits(run.params())
    assert "stopped after 4 steps" in said("stop", "shell")
    assert "stopped after 4 steps" in said("watch", "shell")
    assert said("--json", "watch", "shell") == ""
    assert "forgotten" in said("stop", "shell", "--forget")
    assert main(["runs", address, "show", "shell"]) == 1
    assert "shell" in capsys.readouterr().err


def test_commands_of_a_run_that_has_diverged(service: sg.Service, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has no word for what is no number."""
    assert service.process is not None
    with service.run("diverged", None, sg.optim.SGD(0.1), params={"w": 1.0}).join("ada", timeout=support.PATIENCE) as member:
        assert member.step_gradient({"w": np.inf}, value=np.nan) is not None
    assert main(["runs", service.process.address, "show", "diverged", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert shown["last"]["value"] is None


def test_watching_ends_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One who watches a server that does not come back is told so after a while, and Ctrl-C ends it without a word."""
    monkeypatch.setattr("sumgrad.commands.runs.AWAY_SECONDS", 0.5)
    with sg.local(workers=1) as service:
        assert service.process is not None
        run = training.create(service, "watched", 0, members=1)
        news = run.watch(timeout=0.5)
        next(news)
        kill(service.process.pid)
        with pytest.raises(sg.UnavailableError):
            list(news)

    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sumgrad.commands.runs.connected", interrupted)
    assert main(["runs", "127.0.0.1:1"]) == 130
    assert capsys.readouterr() == ("", "")


def test_fit_takes_what_the_run_was_made_with(service: sg.Service) -> None:
    """Another objective, evaluator or precision is refused; a fit of a run that has ended says that it has no value."""
    run = training.create(service, "fitted", 1, members=1)
    arguments = (training.data(), None)
    other = sg.Objective(sg.param("w", 0.0) * sg.sum(sg.input("x", shape=(training.FEATURES,))))
    for handle in (run, service.get_run("fitted")):
        with pytest.raises(ValueError, match="'fitted' trains another objective"):
            sg.fit(handle, other, *arguments, progress=False)
    with pytest.raises(ValueError, match="when it was made"):
        sg.fit(run, training.network(), *arguments, precision="f32", progress=False)
    assert np.isfinite(sg.fit(run, training.network(), *arguments, progress=False).value)
    ended = sg.fit(run, training.network(), *arguments, progress=False)
    with pytest.raises(ValueError, match="had ended before it took a step"):
        _ = ended.value
