"""What is asked of runs from outside, on a real server: that `sumgrad runs watch` ends, and that `fit` takes part in what its caller means."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import sumgrad as sg
from sumgrad.command import main
from sumgrad_tests import training
from sumgrad_tests.served import kill


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_watch_ends_with_its_server(flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says that the server is gone, and ends."""
    monkeypatch.setattr("sumgrad.commands.runs.AWAY_SECONDS", 0.5)
    with sg.local(workers=1) as service:
        assert service.process is not None
        training.create(service, "watched", 1, members=1)
        death = threading.Timer(1.0, kill, [service.process.pid])
        death.start()
        assert main(["runs", service.process.address, "watch", "watched", *flags]) == 1
        death.join()
    assert "sumgrad runs: " in capsys.readouterr().err.splitlines()[-1]


def test_fit_compares_the_reduction(service: sg.Service) -> None:
    """The same formula, averaged where the run sums, is another objective: its history would be other numbers. A run without one has none to fit."""
    x, w = sg.input("x"), sg.param("w", 0.0)
    loss, data = sg.square(w * x - 1.0), {"x": np.arange(6.0)}
    summed, averaged = sg.Objective(loss), sg.Objective(loss, reduction="mean")
    for name, objective, other in (("summed", summed, averaged), ("averaged", averaged, summed)):
        run = service.run(name, objective, sg.optim.SGD(0.01), max_steps=1)
        assert run.info().reduction == objective.reduction
        assert run.info().graph_id == service.protocol.encoded(other).id
        for handle in (run, service.get_run(name)):
            with pytest.raises(ValueError, match=f"'{name}' trains another objective, or reduces it in another way"):
                sg.fit(handle, other, data, None, progress=False)
        assert run.info().members == ()
        sg.fit(run, objective, data, None, progress=False)
    bare = service.run("bare", None, sg.optim.SGD(0.1), params={"w": 1.0})
    with pytest.raises(ValueError, match=r"'bare' has no objective.*step_gradient"):
        sg.fit(bare, summed, data, None, progress=False)
