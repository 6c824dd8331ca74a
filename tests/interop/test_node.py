"""A client in JavaScript, written from the .proto files alone, gets the bits of the engine in this process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import sumgrad
import sumgrad_engine as sg
from sumgrad_engine.program import Result

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("interop")]

HERE = Path(__file__).parent
PATIENCE = 180.0
PARAMETERS = {"w": np.array([0.3, -0.7, 0.11]), "b": np.array(0.25)}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client and the packages that it needs."""
    if not (shutil.which("node") and shutil.which("npm")):
        if os.environ.get("SUMGRAD_REQUIRE_NODE"):
            pytest.fail("SUMGRAD_REQUIRE_NODE is set, and node or npm is missing")
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "details.proto", "sumgrad.mjs", "scenario.mjs"):
        shutil.copy(HERE / name, folder)
    said(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    return folder


@pytest.fixture(scope="module")
def service() -> Iterator[sumgrad.Service]:
    with sumgrad.local(workers=2, timeout=PATIENCE) as connected:
        yield connected


@pytest.fixture(scope="module")
def run(node: Path, service: sumgrad.Service, repository: Path) -> Any:
    """Has the client do some steps; what it printed of each."""

    def steps(*names: str) -> list[Any]:
        assert service.process is not None
        command = ["node", "scenario.mjs", service.process.address, str(repository / "proto"), *names]
        return [json.loads(line) for line in said(command, node).splitlines()]

    return steps


@pytest.fixture(scope="module")
def data(run: Any) -> dict[str, Any]:
    """The client's samples."""
    (made,) = run("data")
    count = made["samples"]
    return {"x": doubles(made["x"]).reshape(count, 3), "y": doubles(made["y"])}


def logistic(reduction: Literal["sum", "mean"] = "sum") -> sg.Objective:
    """The client's objective, written here."""
    x, y = sg.input("x", shape=(3,)), sg.input("y")
    w, b = sg.param("w", PARAMETERS["w"]), sg.param("b", PARAMETERS["b"])
    margin = y * (sg.sum(x * w) + b)
    return sg.Objective(sg.softplus(-margin), 0.001 * sg.sum(w * w), {"right": margin > 0.0}, reduction)


@pytest.fixture(scope="module")
def objective() -> sg.Objective:
    return logistic()


def said(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def doubles(digits: str) -> Any:
    return np.frombuffer(bytes.fromhex(digits), "<f8")


def shown(result: Result) -> dict[str, Any]:
    """A result as the client prints it, all but what evaluated it."""
    return {
        "value": np.array(result.value, ">f8").tobytes().hex(),
        "gradients": {name: array.tobytes().hex() for name, array in result.grads.items()},
        "metrics": {name: array.tobytes().hex() for name, array in result.metrics.items()},
        "count": result.count,
    }


def without_evaluator(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ("evaluator", "request_id")}


def test_gradients_of_inline_samples(run: Any, data: dict[str, Any], objective: sg.Objective) -> None:
    """A graph built in JavaScript is registered under its SHA-256, and its sum, mean, partial and reference gradients have our bits."""
    (found,) = run("inline")
    expected = {
        "sum": objective.value_and_grad(PARAMETERS, data),
        "mean": logistic("mean").value_and_grad(PARAMETERS, data),
        "wrt": objective.value_and_grad(PARAMETERS, data, wrt=["b"]),
        "reference": objective.value_and_grad(PARAMETERS, data, evaluator="reference"),
    }
    assert (found["known"], found["request_id"], found["same"], found["nodes"]) == (True, "again", True, 17)
    for name, result in expected.items():
        assert without_evaluator(found[name]) == shown(result), name
        assert found[name]["evaluator"] == f"EVALUATOR_{result.evaluator.upper()}"


def test_outputs_of_each_sample(run: Any, data: dict[str, Any]) -> None:
    """Streamed outputs have our bits."""
    (found,) = run("evaluate")
    x, w = sg.input("x", shape=(3,)), sg.param("w", PARAMETERS["w"])
    expected = sumgrad.here.evaluate({"score": sg.sum(x * w)}, {"w": PARAMETERS["w"]}, {"x": data["x"]})["score"]
    assert found["score"] == expected.tobytes().hex()


def test_errors_have_details(run: Any) -> None:
    """Status, reason, fields and metadata of errors can be read from google.rpc's messages."""
    (found,) = run("errors")
    assert {error["domain"] for error in found.values()} == {"sumgrad"}
    assert (found["unknown"]["status"], found["unknown"]["reason"]) == ("NOT_FOUND", "UNKNOWN_GRAPH")
    assert (found["missing"]["status"], found["missing"]["fields"]) == ("INVALID_ARGUMENT", ["inputs.y"])
    assert found["missing"]["metadata"]["request_id"] == "r1"
    assert (found["graph"]["reason"], found["graph"]["fields"]) == ("BAD_SHAPE", ["graph.nodes[2]"])
    assert found["graph"]["metadata"]["op"] == "add"
    assert found["bytes"]["reason"] == "MALFORMED_MESSAGE"


def test_gradients_of_resident_samples(run: Any, data: dict[str, Any], objective: sg.Objective) -> None:
    """An uploaded dataset goes by the id that its comment defines, and gradients of all its rows, a range and a list have our bits."""
    (found,) = run("dataset")
    rows = {"all": slice(None), "range": slice(1000, 4097), "indices": np.arange(700) * 7919 % len(data["y"])}
    assert found["id"] == found["expected_id"]
    assert (found["known"], found["names"]) == ([False, True], ["train"])
    assert (found["bytes"], found["samples"]) == (sum(column.nbytes for column in data.values()), len(data["y"]))
    assert [(name, dtype, shape) for name, dtype, shape, _ in found["columns"]] == [("x", "DTYPE_F64", [3]), ("y", "DTYPE_F64", [])]
    for name, chosen in rows.items():
        expected = objective.value_and_grad(PARAMETERS, {column: array[chosen] for column, array in data.items()})
        assert without_evaluator(found["answers"][name]) == shown(expected), name
    assert (found["damage"]["status"], found["damage"]["reason"]) == ("DATA_LOSS", "DAMAGED")
    assert found["deleted"]["status"] == "NOT_FOUND"


def test_gradients_on_a_stream(run: Any, data: dict[str, Any], objective: sg.Objective) -> None:
    """Pipelined gradients come in order with our bits; the wrong one in their midst is answered with its error, and the stream goes on."""
    (found,) = run("stream")
    assert len(found) == 20
    for number, answer in enumerate(found):
        if number == 6:
            assert (answer["status"], answer["fields"]) == ("INVALID_ARGUMENT", ["parameters.b"])
            assert answer["metadata"]["request_id"] == "stream 6"
        else:
            expected = objective.value_and_grad({**PARAMETERS, "b": np.array(number / 8)}, data)
            assert answer["request_id"] == f"stream {number}"
            assert without_evaluator(answer) == shown(expected)
