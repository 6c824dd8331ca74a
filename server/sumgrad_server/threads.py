"""Work that would block the event loop, done in threads that nobody leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")

INLINE_BYTES = 1 << 20
"""What is smaller is copied in the loop itself: handing it to a thread would cost more."""


async def in_thread(work: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
    """The work's result, from a thread. A caller who is cancelled waits for it too: it may be writing to memory that is to be used again."""
    return await to_its_end(asyncio.to_thread(work, *args, **kwargs))


async def to_its_end(work: Awaitable[Answer]) -> Answer:
    """What some work gives. A caller who is cancelled waits for its end, and its error is nobody's then."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


async def unblocking(nbytes: int, work: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
    """The result of work on so many bytes: from a thread if they are many."""
    if nbytes > INLINE_BYTES:
        return await in_thread(work, *args, **kwargs)
    return work(*args, **kwargs)
