"""The .proto files, the Python code made of them, and the table of ops say the same."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from sumgrad_engine.ops import OPS
from sumgrad_engine.types import DType
from sumgrad_proto.v1 import graph_pb2

FOLDER = Path("sumgrad_proto") / "v1"


def _generated(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir()) if "_pb2" in path.name and path.suffix in {".py", ".pyi"}}


def test_generated_code_is_fresh(repository: Path, tmp_path: Path) -> None:
    """Generating once more, as `make proto` does, gives what is committed."""
    command = ["make", "--no-print-directory", "proto", f"PROTO_OUT={tmp_path}"]
    made = subprocess.run(command, cwd=repository, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    fresh, committed = _generated(tmp_path / FOLDER), _generated(repository / "proto" / FOLDER)
    assert fresh.keys() == committed.keys(), "a .proto file came or went: run `make proto` and commit the result"
    stale = [name for name in fresh if fresh[name] != committed[name]]
    assert stale == [], "the .proto files have changed since this was made of them: run `make proto` and commit the result"


@pytest.mark.parametrize(
    ("package", "file", "mark"),
    [
        ("protobuf", "graph_pb2.py", r"# Protobuf Python Version: ([\d.]+)"),
        ("grpcio", "service_pb2_grpc.py", r"GENERATED_VERSION = '([\d.]+)'"),
    ],
)
def test_generated_code_is_no_newer_than_what_may_run_it(repository: Path, package: str, file: str, mark: str) -> None:
    """The generator's version is the oldest one of the runtime that pyproject.toml allows."""
    (made_by,) = re.findall(mark, (repository / "proto" / FOLDER / file).read_text())
    dependencies = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"{package}>={made_by}" in dependencies


def test_opcodes_are_the_table_of_ops() -> None:
    """Each op has its number in graph.proto under its own name, and each opcode there is an op."""
    wire = {name: number for name, number in graph_pb2.Opcode.items() if number != graph_pb2.OPCODE_UNSPECIFIED}
    assert wire == {f"OPCODE_{op.name.upper()}": op.number for op in OPS.values()}


@pytest.mark.parametrize(
    ("kind", "types"), [("FLOAT", ("DTYPE_F64", "DTYPE_F32")), ("INT", ("DTYPE_I64", "DTYPE_I32")), ("BOOL", ("DTYPE_BOOL",))]
)
def test_each_kind_of_element_has_its_wire_types(kind: str, types: tuple[str, ...]) -> None:
    """The first wire type of a kind is as wide as what the evaluator computes in; the others are of the same kind."""
    widths = [np_width(name) for name in types]
    assert DType[kind].numpy.itemsize == widths[0] == max(widths)
    assert set(types) <= set(graph_pb2.DType.keys())


def test_every_wire_type_has_a_kind() -> None:
    """Three kinds, five types and nothing besides: one that is added needs a place in the codecs and here."""
    assert {kind.name for kind in DType} == {"FLOAT", "INT", "BOOL"}
    assert set(graph_pb2.DType.keys()) == {"DTYPE_UNSPECIFIED", "DTYPE_F64", "DTYPE_F32", "DTYPE_I64", "DTYPE_I32", "DTYPE_BOOL"}


def np_width(name: str) -> int:
    """Bytes an element of a wire type, as its name says."""
    digits = name.removeprefix("DTYPE_").lstrip("FI")
    return int(digits) // 8 if digits.isdigit() else 1
