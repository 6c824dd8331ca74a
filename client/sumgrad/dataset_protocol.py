"""Datasets that stay on the server: uploading them, whatever breaks on the way, and asking for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sumgrad_engine.errors import InputError
from sumgrad_proto.v1 import service_pb2 as wire
from tqdm.auto import tqdm

from . import calls
from .calls import Call, Deadline, Pause, Steps, unary
from .conversation import Conversation
from .errors import NotFoundError, PermissionDeniedError, ResourceExhaustedError, ServiceError, UnavailableError
from .resident import Dataset, ServerStatus, read_dataset, read_status
from .sources import Arrays, Source, Uploadable, open_source
from .uploads import Upload, id_of

QUIET_SECONDS = 1.0
"""Uploads that take less show no progress bar."""


class DatasetProtocol(Conversation):
    """What concerns datasets, and the server's state."""

    def upload(
        self,
        data: Uploadable,
        name: str = "",
        *,
        columns: Sequence[str] | None = None,
        replace: bool = False,
        progress: bool = True,
        timeout: float | None = None,
    ) -> Steps[Dataset]:
        """Stores arrays on the server, where they stay until they are deleted, and gives a handle to be used in place of data.

        `data` is arrays by name with one leading sample axis (a dictionary, a DataFrame, what numpy.load gives), the path of an .npz or Parquet file (of
        several Parquet files, of a folder of them), or batches of arrays: in a list, from an iterator, or from a function that begins them anew.
        Files and batches are never in memory as a whole. `columns` chooses some columns. Without a `name` the dataset is named by its content. A name
        that stands for other content is an AlreadyExistsError, unless `replace` lets it stand for this from now on.

        An upload that breaks off is resumed where it stopped, unless it comes from an iterator. Content that arrays in memory have, and that the server
        has under this name, is not sent again. Raises InputError for what is no column, FileNotFoundError, and ServiceError.
        """
        deadline = self._deadline(timeout)
        source = open_source(data, columns)
        known = yield from self._same(source, name, deadline)
        if known is not None:
            return known
        with tqdm(total=source.nbytes, disable=not progress, unit="B", unit_scale=True, desc=name or None, delay=QUIET_SECONDS) as bar:
            upload_id = self._new_request_id()
            upload = Upload(source, upload_id, name, replace=replace, new_request_id=self._new_request_id, advanced=bar.update)
            return (yield from self._uploaded(upload, bar, deadline))

    def datasets(self, *, timeout: float | None = None) -> Steps[list[Dataset]]:
        """The datasets of the caller's namespace, by name."""
        request = wire.ListDatasetsRequest(request_id=self._new_request_id())
        reply = yield from self._send(calls.LIST_DATASETS, unary, request, self._deadline(timeout))
        return [read_dataset(message) for message in reply.datasets]

    def dataset(self, name_or_id: str, *, timeout: float | None = None) -> Steps[Dataset]:
        """A dataset by name or id. NotFoundError if there is none."""
        return (yield from self._described(name_or_id, self._deadline(timeout)))

    def delete_dataset(self, dataset: Dataset | str, *, timeout: float | None = None) -> Steps[None]:
        """Forgets a dataset: a name or a handle, that name; an id, all names of this content. NotFoundError if there is none."""
        name = dataset.name if isinstance(dataset, Dataset) else dataset
        request = wire.DeleteDatasetRequest(request_id=self._new_request_id(), dataset=name)
        yield from self._send(calls.DELETE_DATASET, unary, request, self._deadline(timeout))

    def status(self, *, timeout: float | None = None) -> Steps[ServerStatus]:
        """What the server is doing: workers, requests, totals."""
        request = wire.GetStatusRequest(request_id=self._new_request_id())
        return read_status((yield from self._send(calls.GET_STATUS, unary, request, self._deadline(timeout))))

    def _described(self, name_or_id: str, deadline: Deadline) -> Steps[Dataset]:
        request = wire.DescribeDatasetRequest(request_id=self._new_request_id(), dataset=name_or_id)
        reply = yield from self._send(calls.DESCRIBE_DATASET, unary, request, deadline)
        return read_dataset(reply.dataset)

    def _found(self, name_or_id: str, deadline: Deadline) -> Steps[Dataset | None]:
        try:
            return (yield from self._described(name_or_id, deadline))
        except (NotFoundError, PermissionDeniedError):  # who may not look may still upload
            return None

    def _same(self, source: Source, name: str, deadline: Deadline) -> Steps[Dataset | None]:
        """The dataset that has this name and just this content, if there is one.

        Working out what arrays contain takes about as long as sending them over a fast network: it is done only where the columns are the same, or where
        the content is the only name.
        """
        if not isinstance(source, Arrays):
            return None
        if not name:
            return (yield from self._found(id_of(source), deadline))
        found = yield from self._found(name, deadline)
        if found is None or found.nbytes != source.nbytes or found.columns.keys() != source.columns.keys():
            return None
        return found if id_of(source) == found.id else None

    def _uploaded(self, upload: Upload, bar: tqdm[Any], deadline: Deadline) -> Steps[Dataset]:
        received = [0] * len(upload.source.columns)
        attempt = 1
        while True:
            try:
                reply = yield Call(calls.UPLOAD_DATASET, upload.requests(received), deadline.remaining())
            except (UnavailableError, ResourceExhaustedError) as error:
                pause = self._retry.pause(attempt, self._dice(), error)
                if upload.error or pause is None or not deadline.allows(pause):
                    raise upload.error or error from None
                yield Pause(pause)
                before, received = sum(received), (yield from self._received(upload, deadline))
                attempt = 1 if sum(received) > before else attempt + 1  # what goes on may go on for long
                bar.n = sum(received)
                done = yield from self._finished(upload, received, deadline)
                if done is not None:
                    return done
            except ServiceError as error:
                raise upload.error or error from None
            else:
                return read_dataset(reply.dataset)

    def _received(self, upload: Upload, deadline: Deadline) -> Steps[list[int]]:
        """How many bytes of each column are on the server."""
        request = wire.DescribeUploadRequest(request_id=self._new_request_id(), upload_id=upload.upload_id)
        try:
            reply = yield from self._send(calls.DESCRIBE_UPLOAD, unary, request, deadline)
        except NotFoundError:
            return [0] * len(upload.source.columns)
        return list(reply.received)

    def _finished(self, upload: Upload, received: Sequence[int], deadline: Deadline) -> Steps[Dataset | None]:
        """The dataset, if everything was sent and stored, and only the answer was lost."""
        if upload.sent_all is None or any(received):
            return None
        found = yield from self._found(upload.name or upload.sent_all, deadline)
        return found if found is not None and found.id == upload.sent_all else None


def require_plain(data: object) -> None:
    """Raises InputError for a path or batches where arrays are wanted."""
    if not hasattr(data, "items"):
        raise InputError(f"data must be arrays by name, a Dataset or the name of one, not {type(data).__name__}", field="data")
