"""The small parts: flags, limits, shard sizes, the store of graphs, threads."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
import sumgrad_engine as sg
from hypothesis import given
from hypothesis import strategies as st
from sumgrad_engine.blocks import tree_sum
from sumgrad_engine.errors import GraphError, InputError
from sumgrad_engine.program import Layout
from sumgrad_engine.trace import trace
from sumgrad_server import settings as settings_module
from sumgrad_server.graphs import GraphStore, StoredGraph, graph_id
from sumgrad_server.jobs import SharedGraph
from sumgrad_server.planning import MAX_ROWS_BYTES, MAX_SHARD_BLOCKS, MAX_SHARDS, MOST_SECONDS, objective_layout, shard_blocks
from sumgrad_server.tasks import Packer, Signature
from sumgrad_server.threads import INLINE_BYTES, in_thread, unblocking


@given(st.integers(1, 1 << 21), st.integers(1, 256), st.integers(0, 1 << 27))
def test_shards_are_powers_of_two_and_bounded(blocks: int, workers: int, row_bytes: int) -> None:
    """Every shard size is a power of two, and shards are neither too many nor too wide together."""
    size = shard_blocks(blocks, workers, row_bytes)
    shards = -(-blocks // size)
    assert size & (size - 1) == 0
    assert shards <= MAX_SHARDS
    assert shards == 1 or shards * row_bytes <= MAX_ROWS_BYTES


@pytest.mark.parametrize(("blocks", "workers", "size"), [(1, 2, 1), (8, 2, 1), (16, 2, 2), (1000, 2, MAX_SHARD_BLOCKS), (1000, 64, 2)])
def test_every_worker_gets_some_shards(blocks: int, workers: int, size: int) -> None:
    """Small requests are cut fine enough for all workers, large ones of which nothing is known into small shards."""
    assert shard_blocks(blocks, workers) == size


def test_shards_are_cut_by_time() -> None:
    """Where a block's time is known, shards take some milliseconds: neither handing them out nor waiting for one takes long."""
    assert shard_blocks(200_000, 2, block_seconds=5e-6) * 5e-6 == pytest.approx(MOST_SECONDS, rel=0.5)
    assert shard_blocks(2000, 2, block_seconds=0.01) == 1
    assert shard_blocks(64, 2, block_seconds=5e-6) == 64  # 0.3 ms in all: not worth cutting


@given(st.integers(1, 300), st.integers(1, 8))
def test_sums_over_shards_have_the_bits_of_the_whole(blocks: int, workers: int) -> None:
    """The tree over shards is the tree over blocks, whatever the number of workers."""
    vectors = list(np.random.default_rng(blocks).normal(size=(blocks, 3)))
    size = shard_blocks(blocks, workers)
    parts = [tree_sum(vectors[start : start + size]) for start in range(0, blocks, size)]
    assert tree_sum(parts).tobytes() == tree_sum(vectors).tobytes()


def test_slots_are_aligned_and_apart() -> None:
    """Arrays in an arena start at multiples of 64 bytes and don't overlap."""
    packer = Packer()
    slots = [packer.slot("a", (3,), np.dtype(bool)), packer.slot("b", (), np.dtype(float)), packer.slot("c", (0, 5), np.dtype(int))]
    memory = np.zeros(packer.nbytes, np.uint8)
    for value, slot in enumerate(slots, 1):
        slot.view(memory)[...] = value
        assert slot.offset % 64 == 0
    assert slots[0].view(memory).tolist() == [True] * 3
    assert slots[1].view(memory) == 2.0
    assert slots[2].view(memory).shape == (0, 5)


def signature(objective: Layout | GraphError) -> Signature:
    return Signature(1, trace({"y": sg.input("x")}), (), objective)


def test_layout_follows_wrt_in_the_order_of_the_graph() -> None:
    """Some parameters, whatever the order in which they are asked for; unknown ones and graphs without a loss are refused."""
    layout = Layout((("m", ()),), (("a", (2,)), ("b", ()), ("c", (3,))))
    assert objective_layout(signature(layout), ("c", "a")) == Layout((("m", ()),), (("a", (2,)), ("c", (3,))))
    assert objective_layout(signature(layout), None) == layout
    with pytest.raises(InputError) as refused:
        objective_layout(signature(layout), ("z",))
    assert refused.value.field == "wrt.z"
    with pytest.raises(GraphError, match="no loss"):
        objective_layout(signature(GraphError("no loss")), None)


def stored(data: bytes) -> StoredGraph:
    return StoredGraph(SharedGraph.of(graph_id(data), data, b""), signature(GraphError("none")))


def test_store_drops_the_least_recently_used() -> None:
    """The store is bounded by number and by bytes; what was used last stays, and a graph counts once."""
    first, second, third = stored(b"1" * 100), stored(b"2" * 100), stored(b"3" * 150)
    store = GraphStore(max_graphs=2, max_bytes=260)
    for graph in (first, second, first):
        store.put(graph)
    assert store.nbytes == 200
    store.put(third)
    assert store.find(graph_id(b"1" * 100)) is first
    assert store.find(graph_id(b"2" * 100)) is None
    assert store.put(stored(b"4" * 1000)) == [graph_id(b"3" * 150), graph_id(b"1" * 100)]
    assert store.nbytes == 1000


def test_cancelled_caller_waits_for_its_thread() -> None:
    """Memory that a thread writes to is not given back before the thread is done."""
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(60)
        done.set()

    async def cancelled() -> None:
        task = asyncio.create_task(in_thread(work))
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        await asyncio.sleep(0)  # the task hears of it
        await asyncio.sleep(0)
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done.is_set()

    asyncio.run(cancelled())


def test_only_much_work_goes_to_a_thread() -> None:
    """Small copies run where they are."""
    here = threading.get_ident()
    assert asyncio.run(unblocking(10, threading.get_ident)) == here
    assert asyncio.run(unblocking(INLINE_BYTES + 1, threading.get_ident)) != here


def test_container_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container's memory limit is the machine's, where it is less."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(settings_module, "CGROUP_LIMIT", limit)
    machine = settings_module.memory_bytes()
    limit.write_text("max\n")
    assert settings_module.memory_bytes() == machine
    limit.write_text("1000000\n")
    assert settings_module.memory_bytes() == 1_000_000
