"""Shared memory: classes of size, reuse, limits, and that nobody can leave any behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sumgrad_engine.errors import LimitError
from sumgrad_server.arena import SMALLEST, Arena, ArenaPool, attach, size_class
from sumgrad_server.channel import Channel
from sumgrad_server.faults import BusyError


def acquire(pool: ArenaPool, nbytes: int) -> Arena:
    return asyncio.run(pool.acquire(nbytes))


@pytest.mark.parametrize("nbytes", [1, SMALLEST, SMALLEST + 1, 100_000, 2**20, 2**20 + 1, 5 * 2**20 + 3, 2**30])
def test_size_class_is_enough_and_not_much_more(nbytes: int) -> None:
    """A class holds what is needed, wastes at most a quarter of it, and is its own class."""
    size = size_class(nbytes)
    assert nbytes <= size <= max(SMALLEST, nbytes * 5 // 4)
    assert size_class(size) == size


def test_arena_is_seen_through_its_descriptor() -> None:
    """Who attaches the descriptor sees what is written, on either side, even after it is closed."""
    arena = Arena(SMALLEST)
    there = attach(arena.fd, arena.nbytes)
    arena.bytes[7] = 42
    assert there[7] == 42
    there[8] = 43
    assert arena.bytes[8] == 43
    arena.close()
    assert there[7] == 42


def test_arena_is_really_allocated() -> None:
    """The kernel has set the memory aside: a full machine is an error at once, and not a SIGBUS later."""
    arena = Arena(1 << 22)
    assert os.fstat(arena.fd).st_blocks * 512 >= 1 << 22
    arena.close()


def test_forgotten_arena_closes_its_descriptor() -> None:
    """An arena that nobody holds any more frees its descriptor."""
    arena = Arena(SMALLEST)
    fd = arena.fd
    del arena
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_pool_uses_arenas_again() -> None:
    """A released arena serves the next need of its class; a lent one doesn't."""
    pool = ArenaPool(1 << 24)
    first = acquire(pool, 1 << 20)
    other = acquire(pool, 1 << 20)
    assert other is not first
    pool.release(first)
    assert acquire(pool, (1 << 20) - 100) is first
    assert pool.total_bytes == 2 << 20
    pool.close()


def test_pool_makes_room_by_destroying_idle_arenas() -> None:
    """Idle arenas of other classes go first, and their ids are told so that workers can forget them."""
    pool = ArenaPool(1 << 20)
    idle = acquire(pool, 1 << 19)
    pool.release(idle)
    acquire(pool, 3 << 18)
    assert len(idle.bytes) == 0
    assert pool.total_bytes == 3 << 18
    pool.close()


def test_pool_refuses_what_is_over_its_limit() -> None:
    """What others use up is worth coming back for; what never fits is not."""
    pool = ArenaPool(1 << 20)
    acquire(pool, 3 << 18)
    with pytest.raises(BusyError, match="max_shared_bytes"):
        acquire(pool, 1 << 19)
    with pytest.raises(LimitError, match="max_shared_bytes") as refused:
        acquire(pool, 1 << 21)
    assert not isinstance(refused.value, BusyError)
    pool.close()


def test_machine_without_room_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel has no memory left, the request is refused, and the pool counts as before."""

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    pool = ArenaPool(1 << 30)
    with pytest.raises(BusyError):
        acquire(pool, 1 << 20)
    assert pool.total_bytes == 0


def test_temporary_file_serves_where_there_is_no_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memfd_create the arena is a file that has no name."""
    monkeypatch.delattr(os, "memfd_create")
    arena = Arena(SMALLEST)
    assert "(deleted)" in os.readlink(f"/proc/self/fd/{arena.fd}")
    arena.close()


def test_killed_process_leaves_nothing() -> None:
    """After kill -9, no file of an arena remains, in /dev/shm or anywhere."""
    program = """
import sys
from sumgrad_server.arena import Arena
arena = Arena(1 << 22)
arena.bytes[:] = 1
print("made", flush=True)
sys.stdin.read()
"""
    before = set(os.listdir("/dev/shm"))
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"made\n"
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "memfd:sumgrad (deleted)" in maps
        assert set(os.listdir("/dev/shm")) == before
        process.kill()
        assert process.wait() == -9
    assert set(os.listdir("/dev/shm")) == before


def test_channel_carries_messages_and_descriptors() -> None:
    """Messages arrive whole and in order, each with its descriptors, however the bytes are cut."""
    here, socket = Channel.pair()
    there = Channel(socket)
    arena = Arena(SMALLEST)
    arena.bytes[:4] = [1, 2, 3, 4]
    here.send("first", [arena.fd])
    here.send({"second": np.arange(3).tolist()})
    here.send("third", [arena.fd, arena.fd])
    message, (fd,) = there.receive()
    assert message == "first"
    assert attach(fd, SMALLEST)[:4].tolist() == [1, 2, 3, 4]
    assert there.receive() == ({"second": [0, 1, 2]}, [])
    message, fds = there.receive()
    assert (message, len(fds)) == ("third", 2)
    for each in (fd, *fds):
        os.close(each)
    arena.close()
    here.close()
    with pytest.raises(EOFError):
        there.receive()
    there.close()


def test_long_messages_pass_in_pieces() -> None:
    """A message longer than the socket's buffer arrives, piece by piece."""
    here, socket = Channel.pair()
    there = Channel(socket)
    program = b"x" * (1 << 22)

    async def both() -> object:
        sending = asyncio.create_task(asyncio.to_thread(here.send, program))
        message, _ = await asyncio.to_thread(there.receive)
        await sending
        return message

    assert asyncio.run(both()) == program
    here.close()
    there.close()


def test_an_end_that_does_not_wait_keeps_what_is_not_taken() -> None:
    """More than the socket holds is kept, descriptors too, though the sender has closed its own; it goes out when the other end reads."""
    channel, theirs = Channel.pair()
    other = Channel(theirs)
    channel.unblock()
    arena = Arena(4096)
    arena.bytes[0] = 7
    messages: list[Any] = [(bytes(100_000), []) for _ in range(10)]
    assert not channel.send_all([*messages, ("last", [arena.fd])])
    arena.close()
    received: list[Any] = []
    while len(received) < 11:
        channel.flush()
        received += other.receive_available()
    assert channel.flush()
    assert [len(message) for message, _ in received[:10]] == [100_000] * 10
    (fd,) = received[10][1]
    assert attach(fd, 4096)[0] == 7
    os.close(fd)
    channel.close()
    other.close()


def test_a_channel_that_is_closed_leaves_no_descriptors() -> None:
    """What could not be sent before the end takes its descriptors with it."""
    before = len(os.listdir("/proc/self/fd"))
    channel, theirs = Channel.pair()
    channel.unblock()
    arena = Arena(4096)
    assert not channel.send_all([(bytes(1_000_000), []), ("last", [arena.fd])])
    arena.close()
    channel.close()
    theirs.close()
    del arena
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
