"""One upload: the messages that carry a source's columns, their checksums on the way, and where to go on when it breaks off."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from sumgrad_engine.errors import InputError
from sumgrad_proto.v1 import service_pb2 as wire

from .resident import DatasetColumn, content_id, upload_columns
from .sources import Source

CHUNK_BYTES = 1 << 21
AHEAD = 8
"""Pieces that may be sent before their checksums are worked out."""
_CHUNK_TAG = wire.UploadDatasetRequest.CHUNK_FIELD_NUMBER << 3 | 2
_DATA_TAG = wire.UploadChunk.DATA_FIELD_NUMBER << 3 | 2


class Upload:
    """Sends a source under an id, as often as it takes: each time from where the server has it.

    `advanced` is called with numbers of bytes that are on their way for the first time. What goes wrong in the source while gRPC reads from it is kept in
    `error`, for gRPC would only say that something did.
    """

    def __init__(
        self,
        source: Source,
        upload_id: str,
        name: str,
        *,
        replace: bool,
        new_request_id: Callable[[], str],
        advanced: Callable[[int], object],
    ) -> None:
        self.source, self.upload_id, self.name = source, upload_id, name
        self._replace, self._new_request_id, self._advanced = replace, new_request_id, advanced
        self.error: Exception | None = None
        self.sent_all: str | None = None
        """The content's id, when everything has been sent once."""
        self._begun = False

    def requests(self, received: Sequence[int]) -> Iterator[bytes]:
        """The messages, serialised, if the server has so many bytes of each column already."""
        if self._begun and not self.source.again:
            raise InputError(
                "the upload broke off, and its batches come from an iterator that can't begin anew: pass a function", field="data"
            )
        self._begun = True
        return self._kept_errors(received)

    def _kept_errors(self, received: Sequence[int]) -> Iterator[bytes]:
        try:
            yield self._start()
            with ThreadPoolExecutor(1, "sumgrad-sha256") as thread:
                checksums = _Checksums(thread, len(self.source.columns))
                rows, offsets = [0] * len(received), [0] * len(received)
                for number, piece in self.source.pieces():
                    data = piece.reshape(-1).view(np.uint8).data
                    checksums.update(number, data)
                    yield from self._chunks(number, data, offsets[number], received[number])
                    rows[number] += len(piece)
                    offsets[number] += len(data)
                yield self._finish(rows[0], checksums.digests())
        except Exception as error:  # noqa: BLE001 - whatever the source raises is its user's to see
            self.error = error

    def _start(self) -> bytes:
        start = wire.UploadStart(
            request_id=self._new_request_id(),
            upload_id=self.upload_id,
            name=self.name,
            columns=upload_columns(self.source.columns),
            replace=self._replace,
        )
        return wire.UploadDatasetRequest(start=start).SerializeToString()

    def _chunks(self, number: int, data: memoryview, before: int, received: int) -> Iterator[bytes]:
        """What of these bytes the server does not have."""
        for start in range(max(0, received - before), len(data), CHUNK_BYTES):
            piece = data[start : start + CHUNK_BYTES]
            yield chunk(number, before + start, piece)
            self._advanced(len(piece))

    def _finish(self, sample_count: int, digests: Sequence[bytes]) -> bytes:
        self.sent_all = content_id(sample_count, _with_digests(self.source, [digest.hex() for digest in digests]))
        return wire.UploadDatasetRequest(finish=wire.UploadFinish(sample_count=sample_count, sha256=digests)).SerializeToString()


class _Checksums:
    """SHA-256 of each column, in another thread: it takes about as long as sending does."""

    def __init__(self, thread: ThreadPoolExecutor, columns: int) -> None:
        self._thread = thread
        self._hashers = [hashlib.sha256() for _ in range(columns)]
        self._pending: list[Future[None]] = []

    def update(self, number: int, data: memoryview) -> None:
        """Takes the next bytes of a column."""
        self._pending.append(self._thread.submit(self._hashers[number].update, data))
        if len(self._pending) > AHEAD:
            self._pending.pop(0).result()

    def digests(self) -> list[bytes]:
        """Those of all columns, when all bytes were taken."""
        for future in self._pending:
            future.result()
        return [hasher.digest() for hasher in self._hashers]


def chunk(column: int, offset: int, data: memoryview) -> bytes:
    """An UploadDatasetRequest with this chunk, serialised by hand: protobuf would copy the bytes three times before gRPC sees them."""
    head = wire.UploadChunk(column=column, offset=offset).SerializeToString() + _varint(_DATA_TAG) + _varint(len(data))
    return b"".join((_varint(_CHUNK_TAG), _varint(len(head) + len(data)), head, data))


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _with_digests(source: Source, digests: Sequence[str]) -> dict[str, DatasetColumn]:
    pairs = zip(source.columns.items(), digests, strict=True)
    return {name: DatasetColumn(column.dtype, column.shape, digest) for (name, column), digest in pairs}


def id_of(source: Source) -> str:
    """The id of what a source holds, which is read for it."""
    hashers, rows = [hashlib.sha256() for _ in source.columns], [0] * len(source.columns)
    for number, piece in source.pieces():
        hashers[number].update(piece.data)
        rows[number] += len(piece)
    return content_id(rows[0], _with_digests(source, [hasher.hexdigest() for hasher in hashers]))
