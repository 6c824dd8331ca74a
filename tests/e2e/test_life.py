"""Servers that come and go: local servers, restarts, the command, killed workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sumgrad as sg
from sumgrad.codec import EncodedGraph
from sumgrad.command import main
from sumgrad.demo.workers import worker_pids
from sumgrad.launch import ServerProcess

OBJECTIVE = sg.Objective(sg.square(sg.param("w", 1.0) * sg.input("x")))
DATA = {"x": np.arange(5.0)}
COMMAND = [sys.executable, "-c", "from sumgrad.command import main; main()"]


def test_local_stops_its_server() -> None:
    """The server is gone when the connection is closed, with exit status 0, and closing twice is fine."""
    service = sg.local(workers=1)
    assert service.process is not None
    assert service.value_and_grad(OBJECTIVE, OBJECTIVE.params, DATA).value == 30.0
    workers = worker_pids(service.process.pid)
    assert len(workers) == 1
    service.close()
    service.close()
    assert service.process.process.poll() == 0
    assert not Path(f"/proc/{workers[0]}").exists()


def test_server_goes_with_its_parent() -> None:
    """A server whose starter is killed goes too: the end of its stdin is enough."""
    code = "import sumgrad as sg, sys; s = sg.local(workers=1); print(s.process.pid, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        gone = os.pidfd_open(server)
        parent.kill()
    assert select_readable(gone)


def select_readable(pidfd: int) -> bool:
    """Whether a process ends within a minute."""
    import select

    try:
        return bool(select.select([pidfd], [], [], 60.0)[0])
    finally:
        os.close(pidfd)


def test_graphs_are_registered_again_after_a_restart(tmp_path: Path) -> None:
    """A connection survives its server: the next one gets the graph again, without the caller noticing."""
    address = f"unix:{tmp_path}/socket"
    flags = ["serve", "--address", address, "--workers", "1", "--announce", "--exit-with-parent"]
    values = []
    with sg.connect(address, timeout=60.0, retry=sg.Retry(attempts=50)) as service:
        for _ in range(2):
            with subprocess.Popen([*COMMAND, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
                assert server.stdout is not None
                assert server.stdout.readline()
                values.append(service.value_and_grad(OBJECTIVE, OBJECTIVE.params, DATA).value)
                server.terminate()
                assert server.wait(60) == 0
    assert values == [30.0, 30.0]


def test_serve_becomes_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    """`sumgrad serve` is replaced by the server: the process that was started announces, is healthy, and ends on SIGTERM with status 0."""
    flags = ["serve", "--address", "127.0.0.1:0", "--workers", "1", "--announce"]
    with subprocess.Popen([*COMMAND, *flags], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        announced = server.stdout.readline()
        assert f'"pid": {server.pid}'.encode() in announced
        address = announced.split(b'"address": "')[1].split(b'"')[0].decode()
        assert main(["health", address]) == 0
        assert capsys.readouterr().out == "SERVING\n"
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


def test_serve_passes_help_on() -> None:
    """`sumgrad serve --help` is the server's."""
    said = subprocess.run([*COMMAND, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    assert "--workers" in said


def test_graph_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`sumgrad graph` shows leaves and outputs of a registered graph."""
    with sg.local(workers=1) as service:
        assert service.process is not None
        service.value_and_grad(OBJECTIVE, OBJECTIVE.params, DATA)
        name = EncodedGraph.of(OBJECTIVE.graph).id
        assert service.get_graph(name).node_count == OBJECTIVE.graph.node_count
        assert main(["graph", service.process.address, name]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == ["input x float ()", "parameter w float ()", "output loss float ()"]


def test_server_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that can't start is an error with what it said."""
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")
    with pytest.raises(sg.ServerStartError, match=r"No module named .encodings"):
        ServerProcess.start(workers=1)


@pytest.mark.chaos
def test_killed_worker_changes_no_bit() -> None:
    """The demo's last part: a worker is killed in the middle of a sum, and the bits are those of the undisturbed run."""
    from sumgrad.demo.killing import kill_in_the_middle

    with sg.local(workers=2) as service:
        kill_in_the_middle(service)
