"""Every setting and every limit of the server, frozen when it starts. An error about a limit names its field here."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from sumgrad_engine.options import Evaluator

LogFormat: TypeAlias = Literal["text", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
PROCESSES = "processes"
GIB = 1 << 30
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def cores() -> int:
    """Number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or its container's if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or one without a limit ("max")
        return min(machine, int(CGROUP_LIMIT.read_text()))
    return machine


@dataclass(frozen=True)
class Settings:
    """What `python -m sumgrad_server` can be told. Sizes are in bytes, times in seconds."""

    address: str = "127.0.0.1:50051"
    """Where to listen: host:port or unix:path; port 0 picks a free one."""
    insecure: bool = False
    """Listen where other machines reach it, although there is no encryption or there are no tokens."""
    workers: int = field(default_factory=cores)
    """Worker processes; by default one a core."""
    evaluator: Evaluator = "auto"
    """What evaluates where a request does not say; "reference": compiled code is refused."""
    executor: str = PROCESSES
    """What computes: "processes" of this machine, or the workers of a Dask cluster, by the address of its scheduler (tcp://host:port, tls://host:port)."""
    executor_tls_ca: str | None = None
    """PEM file with the authorities of the cluster's certificates; with the next two for tls:// addresses."""
    executor_tls_cert: str | None = None
    """PEM file with the certificate that the cluster asks for."""
    executor_tls_key: str | None = None
    """PEM file with its private key."""
    cache_dir: str | None = None
    """Where compiled code is kept; empty: in memory only; None: where the engine keeps it (SUMGRAD_CACHE, or the user's cache directory)."""
    state_dir: str | None = None
    """Where graphs and datasets are kept beyond this process. None: in unnamed temporary files, gone with it."""
    tls_cert: str | None = None
    """PEM file with the server's certificate chain; goes with `tls_key`. Read again when it changes."""
    tls_key: str | None = None
    """PEM file with the certificate's private key."""
    tls_client_ca: str | None = None
    """PEM file with the authorities of clients' certificates: every client must have one (mutual TLS)."""
    tokens: str | None = None
    """File of tokens, as `sumgrad tokens` writes it: every call must bring one. Read again when it changes."""
    metrics_address: str | None = None
    """Where to serve metrics and the page for people over HTTP; None: nowhere."""
    log_format: LogFormat = "text"
    """How to log on stderr."""
    log_level: LogLevel = "info"
    """The least that is logged."""
    grace: float = 8.0
    """How long running requests may go on after SIGTERM. Docker kills 10 seconds after it."""

    max_message_bytes: int = 1 << 28
    """While a message arrives the front copies it thrice, and others wait: 0.4 s for one of 256 MiB. Large data is uploaded as a dataset."""
    max_request_id_bytes: int = 128
    max_arrays: int = 65_536
    """Parameters and inputs of one request, and leaves of one graph."""

    max_samples: int = GIB
    """Samples of one request."""

    max_nodes: int = 4_000_000
    max_elements: int = 1 << 26
    """Elements of one node, for one sample."""
    max_graphs: int = 4096
    max_graph_bytes: int = GIB
    """All registered graphs together; the least recently used go first."""

    max_queue: int = 1024
    """Requests that wait or run."""
    max_client_queue: int = 256
    """Requests of one client (a token or, without tokens, a connection) that wait or run."""
    max_stream_window: int = 64
    """Requests of one stream that are not answered yet."""
    max_connection_calls: int = 2048
    """Calls of one connection at a time; more wait at the client. Fewer than `max_client_queue` would hide its errors."""
    max_columns: int = 1024
    """Columns of one dataset."""
    max_datasets: int = 10_000
    """Datasets of one namespace."""
    max_dataset_bytes: int = 1 << 40
    """All datasets of one namespace together, with what is being uploaded."""
    max_uploads: int = 16
    """Unfinished uploads of one namespace."""
    upload_expiry_seconds: float = 86_400.0
    """After how long an upload that was broken off is dropped."""
    max_runs: int = 1000
    """Training runs of one namespace; those that have ended make way, the oldest first."""
    max_run_members: int = 1024
    """Members of one training run that have a seat at a time."""
    max_run_names: int = 10_000
    """Names under which members have ever joined one training run."""
    max_run_parameters: int = 1 << 25
    """Numbers that one training run trains."""
    max_run_bytes: int = field(default_factory=lambda: max(GIB, memory_bytes() // 4))
    """All training runs together: parameters and what optimisers keep beside them."""
    max_run_history: int = 10_000
    """Steps of a training run whose lines in the ledger are kept."""
    max_shared_bytes: int = field(default_factory=lambda: max(GIB, memory_bytes() // 3))
    """Shared memory of all requests that wait or run, and of what is kept for the next ones."""
    max_worker_bytes: int = field(default_factory=lambda: max(GIB, memory_bytes() // 2 // cores()))
    """Memory of one worker, beside the shared one."""
    max_cluster_bytes: int = 8 * GIB
    """Datasets that are held by the workers of a Dask cluster; the least recently used go first."""
    max_compile_seconds: float = 60.0
    """How long a worker may compile one graph."""
    max_programs: int = 32
    """Prepared programs that a worker keeps."""

    stall_seconds: float = 10.0
    """How long a busy worker may show no sign of life before it is replaced."""
    cancel_seconds: float = 5.0
    """How long a worker may go on with a cancelled request (it looks between blocks) before it is replaced."""
    keepalive_seconds: float = 30.0
    """After how long a silent client is asked whether it is still there, and how long it may take to answer before it counts as gone."""
    handshake_seconds: float = 10.0
    """How long a client may take to set up a connection."""
    retry_seconds: float = 1.0
    """When a client that met a full queue should come back."""
