"""Fuzzing of the front's decoding that follows the branches it finds: by hand, not in CI.

    python -m venv /tmp/guided && /tmp/guided/bin/pip install atheris numpy protobuf grpcio ...   # atheris is not in the lock: it has no wheels for all Pythons
    /tmp/guided/bin/python tests/fuzz/guided.py graph|arrays|scan|upload CORPUS -max_total_time=600

with proto, engine, server, tests/helpers on PYTHONPATH. The first run fills CORPUS with good messages. What ends in anything but an error of the
server's table is a finding: libFuzzer writes it to a file, and its bytes belong into `FOUND` of test_rpcs.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris
from google.protobuf.message import DecodeError

with atheris.instrument_imports(include=["sumgrad_server.codec", "sumgrad_server.scan", "sumgrad_server.uploads", "sumgrad_engine"]):
    from sumgrad_engine.errors import SumgradError
    from sumgrad_proto.v1 import service_pb2 as wire
    from sumgrad_server import codec
    from sumgrad_server.settings import Settings

from sumgrad_tests.mutation import mutated
from sumgrad_tests.requests import INNER, seeds

SETTINGS = Settings(max_elements=1 << 16, max_nodes=10_000)


def graph(data: bytes) -> None:
    """A graph and its source map."""
    request = codec.parse(wire.RegisterGraphRequest, data)
    codec.parse_graph(request.graph, request.sources.SerializeToString(), SETTINGS)


def arrays(data: bytes) -> None:
    """The arrays of a gradient, and its rows."""
    request = codec.parse(wire.GradientRequest, data)
    codec.decode_arrays(request.parameters, "parameters", SETTINGS)
    codec.decode_arrays(request.inputs, "inputs", SETTINGS)
    if request.rows.HasField("indices"):
        codec.decode_array(request.rows.indices, "rows.indices")


TARGETS: dict[str, tuple[str, Callable[[bytes], None]]] = {"graph": ("RegisterGraph", graph), "arrays": ("Gradient", arrays)}


def main() -> None:
    """Runs a target."""
    method, target = TARGETS[sys.argv[1]]
    corpus = Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    messages = [request for seed in seeds("0" * 64, "kept") if seed.method == method for request in seed.requests]
    for number, message in enumerate(messages):
        (corpus / f"seed{number}").write_bytes(message.SerializeToString())

    def one(data: bytes) -> None:
        try:
            target(data)
        except SumgradError:
            return

    def change(data: bytes, most: int, seed: int) -> bytes:
        """Half of the changes are those of the descriptors: fields instead of bytes."""
        dice = Random(seed)
        if dice.random() < 0.5:
            return atheris.Mutate(data, most)
        try:
            changed = mutated(type(messages[0]).FromString(data), dice, INNER)
        except (DecodeError, ValueError):  # the bytes are no message
            return atheris.Mutate(data, most)
        return changed[:most]

    atheris.Setup([sys.argv[0], str(corpus), *sys.argv[3:]], one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
