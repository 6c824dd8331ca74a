"""What a server keeps beyond a request, opened and closed together: graphs, datasets, unfinished uploads, runs, and the state that they are in."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .datasets import Catalogue
from .faults import DamagedError, NoRoomError
from .graphs import Graphs
from .runs.runs import Runs
from .settings import Settings
from .store.database import StateError
from .store.directory import RUNS
from .store.journal import Journal
from .store.state import State
from .uploads import Uploads


class Kept:
    """Empty until it is open."""

    def __init__(self, settings: Settings) -> None:
        self._state = State(settings.state_dir)
        self.graphs = Graphs(self._state, settings)
        self.datasets = Catalogue(self._state, settings)
        self.uploads = Uploads(self._state, self.datasets, settings)
        self.runs = Runs(Journal(Path(settings.state_dir).absolute() / RUNS if settings.state_dir else None), settings)
        self._expiring: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Reads what there is. Raises StateError; then it is closed."""
        await self._state.open()
        try:
            await self.graphs.load()
            await self.datasets.load()
            await self.uploads.load()
            await self.runs.load()
        except (NoRoomError, DamagedError) as error:
            await self.close()
            raise StateError(str(error)) from error
        except StateError:
            await self.close()
            raise
        self._expiring = asyncio.create_task(self.uploads.expire())

    async def close(self) -> None:
        """Lets another server have the state."""
        if self._expiring is not None:
            self._expiring.cancel()
            await asyncio.wait([self._expiring])
        await self.runs.close()
        await self._state.close()
