"""Members of real runs in trouble: interrupted, too late, given up, without a seat; samples count once, and nobody waits for who is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import sumgrad as sg
from sumgrad.batches import rows_of
from sumgrad_tests import support, training

OBJECTIVE = sg.Objective(sg.param("w", 0.0) * sg.input("x"))
A, B = {"x": np.ones(3)}, {"x": np.full(5, 10.0)}


def create(service: sg.Service, name: str, optimizer: Any = None, **options: Any) -> Any:
    """A run of the small objective."""
    return service.run(name, OBJECTIVE, optimizer, **{"members": 2, **options})


def state(run: Any, name: str) -> str:
    """What a member does; nothing before it has joined."""
    return next((str(member.state) for member in run.info().members if member.name == name), "")


def counted(run: Any) -> list[dict[int, int]]:
    """How many samples each member has contributed to each step."""
    return [dict(line.samples) for line in run.ledger()]


def until_made(step: Callable[[], Any]) -> Any:
    """A member's step, asked for again for as long as the others take."""
    while True:
        with contextlib.suppress(sg.DeadlineExceededError):
            return step()


@contextmanager
def interrupted(when: Callable[[], bool]) -> Iterator[None]:
    """Ctrl-C in this thread, as soon as something is so."""

    def interrupt() -> None:
        support.wait_until(when, "the moment of the interruption")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def raises(*given: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, raises)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_an_interrupted_member_goes_on(service: sg.Service) -> None:
    """Ctrl-C while it waits for another: the next call waits for the same step, and the samples count once."""
    run = create(service, "interrupted", sg.optim.SGD(1.0))
    with run.join("ada") as ada, run.join("bea") as bea, ThreadPoolExecutor(1) as thread:
        with interrupted(lambda: state(run, "ada") == "done"):
            ada.step(A)
        other = thread.submit(bea.step, B)
        found = ada.step(A)
        assert found is not None
        assert found.step == 0
        assert other.result() is not None
    assert counted(run) == [{0: 3, 1: 5}]


def test_an_interrupted_member_may_leave(service: sg.Service) -> None:
    """The interruption is what comes out of the block, and the seat is given up at once."""
    run = create(service, "left", sg.optim.SGD(1.0))
    with run.join("bea"), interrupted(lambda: state(run, "ada") == "done"), run.join("ada") as ada:
        ada.step(A)
    assert state(run, "ada") == "left"


@pytest.mark.parametrize("again", [True, False])
def test_samples_of_a_call_that_was_given_up_count_once(service: sg.Service, again: bool) -> None:
    """The same call again waits for the step; one with other samples sees to it that it is made, and makes the next one."""
    run = create(service, f"given up, {again}", sg.optim.SGD(1.0))
    with run.join("ada", timeout=0.3) as ada, run.join("bea") as bea, ThreadPoolExecutor(1) as thread:
        with pytest.raises(sg.DeadlineExceededError):
            ada.step(A)
        other = thread.submit(lambda: [bea.step(A) for _ in range(1 if again else 2)])
        found = until_made(lambda: ada.step(A if again else B))
        assert found.step == (0 if again else 1)
        assert len(other.result()) == len(counted(run))
    assert counted(run) == ([{0: 3, 1: 3}] if again else [{0: 3, 1: 3}, {0: 5, 1: 3}])


def test_who_updates_hears_of_a_step_that_was_given_up(service: sg.Service) -> None:
    """With other parameters there is no going on: the step's gradient is to be seen first."""
    run = create(service, "given up by one that updates")
    with run.join("ada", timeout=0.3) as ada, run.join("bea") as bea, ThreadPoolExecutor(1) as thread:
        with pytest.raises(sg.DeadlineExceededError):
            ada.value_and_grad(None, {"w": 1.0}, A)
        other = thread.submit(bea.value_and_grad, None, {"w": 1.0}, B)
        with pytest.raises(sg.AbortedError, match=r"step 0 was made .* member\.last"):
            until_made(lambda: ada.value_and_grad(None, {"w": 2.0}, A))
        assert ada.last is not None
        assert (ada.last.step, ada.last.grads["w"]) == (0, 53.0)
        assert other.result().value == 53.0


def test_leaving_after_a_timeout_is_heard(service: sg.Service) -> None:
    """Nobody waits for a lease to run out."""
    run = create(service, "heard", sg.optim.SGD(1.0))
    with run.join("bea", timeout=support.PATIENCE) as bea:
        with pytest.raises(sg.DeadlineExceededError), run.join("ada", timeout=0.3) as ada:
            ada.step(A)
        assert state(run, "ada") in ("left", "done")  # what was given before counts
        bea.step(A)
        assert state(run, "ada") == "left"


def test_a_server_that_stands_still_keeps_nobody() -> None:
    """Joining, stepping and leaving take as long as they were given."""
    with sg.local(workers=1) as service:
        assert service.process is not None
        run = create(service, "still", sg.optim.SGD(1.0))
        with run.join("ada", timeout=0.5) as ada:
            os.kill(service.process.pid, signal.SIGSTOP)
            try:
                with pytest.raises(sg.DeadlineExceededError):
                    ada.step(A)
                with pytest.raises(sg.DeadlineExceededError):
                    run.join("bea", timeout=0.5)
                ada.close()
            finally:
                os.kill(service.process.pid, signal.SIGCONT)


def test_a_closed_member_does_nothing(service: sg.Service) -> None:
    """It takes no seat that nobody would keep."""
    run = create(service, "closed", sg.optim.SGD(1.0), members=1)
    with run.join("ada") as ada:
        assert ada.step(A) is not None
    for _ in range(2):
        with pytest.raises(ValueError, match="closed: join the run again"):
            ada.step(A)
    ada.close()
    assert state(run, "ada") == "left"


def test_who_was_left_behind_waits_for_a_seat() -> None:
    """All seats are taken when it comes back: it has one as soon as another leaves."""
    with sg.local(workers=1, flags=["--max-run-members", "2"]) as service, ThreadPoolExecutor(1) as thread:
        run = create(service, "full", sg.optim.SGD(1.0), step_timeout=0.2, min_members=1)
        with run.join("ada", timeout=support.PATIENCE) as ada, run.join("bea") as bea:
            assert bea.step(B) is not None
            assert state(run, "ada") == "left"
            with run.join("cleo"):
                waiting = thread.submit(ada.step, A)
                with pytest.raises(sg.ResourceExhaustedError):
                    run.join("dora")
            bea.close()
            assert waiting.result(support.PATIENCE) is not None


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_times_that_are_none(service: sg.Service, timeout: float) -> None:
    """A member waits for some time, or for ever."""
    with pytest.raises(ValueError, match="timeout must be above 0"):
        create(service, "times", sg.optim.SGD(1.0)).join("ada", timeout=timeout)


def test_a_contribution_that_cannot_be_made_keeps_the_turn(service: sg.Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call makes the step. What no member could send is refused when it joins."""
    run = create(service, "not made", sg.optim.SGD(1.0), members=1)
    with pytest.raises(ValueError, match=r"data\.x has elements of type"):
        run.join("ada", data={"x": np.array(["one", "two"])})
    with run.join("ada", data=A, timeout=support.PATIENCE) as ada:

        def fails(*given: Any, **named: Any) -> Any:
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr("sumgrad.member.rows_of", fails)
            with pytest.raises(ZeroDivisionError):
                ada.step()
        found = ada.step()
        assert found is not None
        assert found.step == 0


def test_seeds_of_numpy(service: sg.Service) -> None:
    """Any integer is a seed, and what is none is refused when a member joins."""
    run = service.run("seeds", sg.Objective(sg.param("w", 1.0) * sg.input("x")), sg.optim.SGD(0.0), members=1)
    data = 2.0 ** np.arange(9.0)
    for step, seed in enumerate((3, np.int64(3), np.uint8(3))):
        with run.join("ada", data={"x": data}, batch_size=2, seed=seed) as ada:
            found = ada.step()
            assert found is not None
            assert found.value == data[rows_of(step, 0, 1, samples=9, batch_size=2, seed=3)].sum()
    with pytest.raises(TypeError):
        run.join("bea", data=A, seed=1.5)


def test_a_late_fit_goes_on_with_the_schedule(service: sg.Service) -> None:
    """Where members update: a fit that comes later has the bits of one that was there from the beginning, or says that it can't."""
    options = {"members": 1, "min_members": 1}

    def fit(run: Any, epochs: int, optimizer: Any = None) -> sg.Fit:
        schedule = sg.optim.Schedule(0.05, warmup_steps=3, decay=sg.optim.ExponentialDecay(0.9))
        chosen = optimizer or sg.optim.SGD(schedule)
        return sg.fit(run, training.network(), training.data(), chosen, batch_size=training.BATCH, epochs=epochs, seed=3, progress=False)

    whole = fit(service.run("whole", training.network(), None, **options), 4)
    run = service.run("in parts", training.network(), None, **options)
    fit(run, 2)
    later = fit(run, 2)
    assert training.bits(later.params) == training.bits(whole.params)
    with pytest.raises(ValueError, match="has not seen"):
        fit(run, 1, sg.optim.SGD(0.1, momentum=0.5))


def test_an_optimiser_that_comes_late_is_refused_as_it_was(service: sg.Service) -> None:
    """Its caller may go on with it elsewhere."""
    run = create(service, "late optimiser", members=1)
    optimizer = sg.optim.Adam(0.1)
    sg.fit(run, OBJECTIVE, A, optimizer, epochs=2, progress=False)
    before = {name: array.tobytes() for name, array in optimizer.state().items()}
    with pytest.raises(ValueError, match="depends on those before"):
        sg.fit(run, OBJECTIVE, A, optimizer, progress=False)
    assert {name: array.tobytes() for name, array in optimizer.state().items()} == before


def test_gradients_are_of_some_samples(service: sg.Service) -> None:
    """One of none would be lost without a word; a negative count is refused by name. Nothing at all may be brought."""
    with create(service, "counts", sg.optim.SGD(0.1), members=1).join("ada", timeout=support.PATIENCE) as ada:
        with pytest.raises(ValueError, match="count is of how many samples"):
            ada.step_gradient({"w": 1.0}, count=-1)
        with pytest.raises(sg.InvalidArgumentError, match="gradient of 0 samples is 0"):
            ada.step_gradient({"w": 1.0}, count=0)
        found = ada.step_gradient({"w": 0.0}, count=0)
        assert (found.count, float(found.params["w"])) == (0, 0.0)
