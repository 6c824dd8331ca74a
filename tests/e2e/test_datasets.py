"""Datasets on a real server: uploaded, used by rows, kept over a restart, trained on; the same bits as with the arrays themselves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sumgrad as sg
from sumgrad.command import main
from sumgrad_engine.errors import InputError

X, Y = sg.input("x", shape=(2,)), sg.input("y")
W = sg.param("w", np.array([0.5, -0.25]))
OBJECTIVE = sg.Objective(sg.softplus(-Y * (X @ W)), penalty=0.01 * sg.sum(W * W), metrics={"right": Y * (X @ W) > 0.0})


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """Samples of which one column is in single precision."""
    dice = np.random.default_rng(5)
    return {"x": dice.normal(size=(7000, 2)), "y": np.sign(dice.normal(size=7000)).astype(np.float32)}


def same(found: Any, expected: Any) -> bool:
    """Whether two results have the same bits."""
    return (found.value, found.count, found.grads["w"].tobytes(), found.metrics["right"].tobytes()) == (
        expected.value,
        expected.count,
        expected.grads["w"].tobytes(),
        expected.metrics["right"].tobytes(),
    )


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_rows_of_a_dataset_have_the_bits_of_the_arrays(service: sg.Service, data: Any, precision: Any) -> None:
    """Whatever rows are chosen, by handle or by name, the sum is that of the same rows of the arrays in process."""
    dataset = service.upload(data, f"rows-{precision}", progress=False)
    dice = np.random.default_rng(6)
    choices = [None, slice(10, 6000), slice(-1, None), [3, 3, 6999], dice.permutation(7000), data["x"][:, 0] > 0.0, slice(None, None, 7)]
    for rows in choices:
        expected = sg.here.value_and_grad(OBJECTIVE, OBJECTIVE.params, data, rows=rows, precision=precision)
        for source in (dataset, dataset.name):
            assert same(service.value_and_grad(OBJECTIVE, OBJECTIVE.params, source, rows=rows, precision=precision), expected)
    found = service.evaluate({"score": X @ W}, OBJECTIVE.params, dataset, rows=[5, 1], precision=precision)["score"]
    expected_rows = sg.here.evaluate({"score": X @ W}, OBJECTIVE.params, data, rows=[5, 1], precision=precision)["score"]
    assert found.tobytes() == expected_rows.tobytes()


@pytest.mark.parametrize("batch_size", [None, 900])
def test_a_fit_on_a_dataset_is_the_fit_on_its_arrays(service: sg.Service, data: Any, batch_size: int | None) -> None:
    """Epochs over a dataset, of which only row numbers are sent, end with the bits of those over the arrays."""
    dataset = service.upload(data, "fit", progress=False)
    fits = [
        sg.fit(source, OBJECTIVE, samples, sg.optim.Adam(0.05), batch_size, 2, seed=7, progress=False)
        for source, samples in ((service, dataset), (None, data))
    ]
    assert fits[0].params["w"].tobytes() == fits[1].params["w"].tobytes()
    assert [epoch.value for epoch in fits[0].history] == [epoch.value for epoch in fits[1].history]


def test_datasets_survive_a_killed_server(data: Any, tmp_path: Path) -> None:
    """What was acknowledged before kill -9 is there for the next server with the same directory, and so are the graphs."""
    with sg.local(workers=1, state_dir=tmp_path) as service:
        dataset = service.upload(data, "kept", progress=False)
        before = service.value_and_grad(OBJECTIVE, OBJECTIVE.params, dataset)
        assert service.process is not None
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.process.wait()
    with sg.local(workers=1, state_dir=tmp_path) as service:
        assert service.datasets() == [dataset]
        assert service.status().graphs == 1
        assert same(service.value_and_grad(OBJECTIVE, OBJECTIVE.params, dataset), before)


def test_names(service: sg.Service, data: Any) -> None:
    """A name stands for one content until it is replaced or deleted; deleted datasets are not found."""
    first = service.upload(data, "name", progress=False)
    half = {name: array[:100] for name, array in data.items()}
    with pytest.raises(sg.AlreadyExistsError, match="name"):
        service.upload(half, "name", progress=False)
    second = service.upload(half, "name", replace=True, progress=False)
    assert (service.dataset("name").id, second.id == first.id) == (second.id, False)
    service.delete_dataset(second)
    with pytest.raises(sg.NotFoundError, match="name"):
        service.dataset("name")
    with pytest.raises(sg.NotFoundError):
        service.value_and_grad(OBJECTIVE, OBJECTIVE.params, second)


def test_what_does_not_fit_is_named_before_it_travels(service: sg.Service, data: Any) -> None:
    """A missing column, one of another shape or kind, and rows that are none, are errors that name them."""
    dataset = service.upload({"x": data["x"][:, 0], "y": data["y"]}, "narrow", progress=False)
    with pytest.raises(InputError, match="column 'x' of dataset 'narrow' has samples of shape"):
        service.value_and_grad(OBJECTIVE, OBJECTIVE.params, dataset)
    objective = sg.Objective(sg.input("z") * sg.param("w", 1.0))
    with pytest.raises(InputError, match=r"no column 'z'.*'x', 'y'"):
        service.value_and_grad(objective, objective.params, dataset)
    with pytest.raises(sg.InvalidArgumentError, match="no column 'z'"):
        service.value_and_grad(objective, objective.params, "narrow")
    with pytest.raises(InputError, match="there are 7000 samples"):
        service.evaluate({"y": Y + 1.0}, {}, "narrow", rows=[7000])


def test_asyncio_uploads_too(data: Any) -> None:
    """The asyncio service uploads while its loop goes on, and sums over rows."""

    async def run() -> Any:
        async with sg.aio.local(workers=1) as service:
            dataset = await service.upload(data, "train", progress=False)
            assert [each.name for each in await service.datasets()] == ["train"]
            return await service.value_and_grad(OBJECTIVE, OBJECTIVE.params, dataset, rows=slice(100))

    assert same(asyncio.run(run()), sg.here.value_and_grad(OBJECTIVE, OBJECTIVE.params, data, rows=slice(100)))


def test_commands(service: sg.Service, data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sumgrad datasets` uploads, lists, shows and deletes; `sumgrad status` tells of workers and totals."""
    assert service.process is not None
    address = service.process.address
    np.savez(tmp_path / "data.npz", **data)
    assert main(["datasets", address, "upload", str(tmp_path / "data.npz"), "--name", "shell", "--columns", "x"]) == 0
    assert "shell" in capsys.readouterr().out
    assert main(["datasets", address]) == 0
    assert any(line.split()[:3] == ["shell", "7,000", "1"] for line in capsys.readouterr().out.splitlines())
    assert main(["datasets", address, "--json", "show", "shell"]) == 0
    assert json.loads(capsys.readouterr().out)["columns"]["x"]["shape"] == [2]
    assert main(["datasets", address, "delete", "shell"]) == 0
    assert main(["datasets", address, "show", "shell"]) == 1
    assert "shell" in capsys.readouterr().err
    assert main(["status", address]) == 0
    assert "samples summed" in capsys.readouterr().out
    assert main(["status", address, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["workers"]) == 2
