"""The gRPC methods about datasets: from the request's fields to the catalogue and the uploads, and back. No logic lives here."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sumgrad_engine.errors import InputError
from sumgrad_proto.v1 import service_pb2 as wire

from . import rpc
from .dataset_codec import PlainChunk, decode_digests, decode_start, encode_dataset, plain_chunk
from .datasets import Catalogue
from .receiving import Receiving
from .rpc import Call, Host, RpcHandler
from .settings import Settings
from .uploads import Start, Uploads


class DatasetMethods:
    """Callers see the datasets and uploads of their own namespace."""

    def __init__(self, settings: Settings, catalogue: Catalogue, uploads: Uploads) -> None:
        self._settings, self._catalogue, self._uploads = settings, catalogue, uploads

    def handlers(self, host: Host) -> dict[str, RpcHandler]:
        """The methods by name, as gRPC calls them."""
        return {
            "UploadDataset": rpc.client_streaming(
                host, "compute", "UploadDataset", wire.UploadDatasetRequest, self.upload_dataset, plain_chunk
            ),
            "DescribeUpload": rpc.unary(host, "compute", "DescribeUpload", wire.DescribeUploadRequest, self.describe_upload),
            "ListDatasets": rpc.unary(host, "read", "ListDatasets", wire.ListDatasetsRequest, self.list_datasets),
            "DescribeDataset": rpc.unary(host, "read", "DescribeDataset", wire.DescribeDatasetRequest, self.describe_dataset),
            "DeleteDataset": rpc.unary(host, "compute", "DeleteDataset", wire.DeleteDatasetRequest, self.delete_dataset),
        }

    async def upload_dataset(self, call: Call, parts: AsyncIterator[wire.UploadDatasetRequest | PlainChunk]) -> wire.UploadDatasetResponse:
        """Stores the columns that come, and answers when they are on the disk."""
        start = await self._start(call, parts)
        async with self._uploads.receiving(call.principal, start) as arriving:
            async for part in parts:
                if isinstance(part, PlainChunk):
                    await arriving.put(*part)
                elif part.HasField("chunk"):
                    await arriving.put(part.chunk.column, part.chunk.offset, part.chunk.data)
                elif part.HasField("finish"):
                    return await self._finish(call, arriving, start, part.finish)
                else:
                    raise InputError("after UploadStart come UploadChunks and one UploadFinish", field="part")
        raise InputError("the stream ended without UploadFinish; what has come is kept, to be resumed", field="finish")

    async def _start(self, call: Call, parts: AsyncIterator[wire.UploadDatasetRequest | PlainChunk]) -> Start:
        first = await anext(parts, None)
        if not isinstance(first, wire.UploadDatasetRequest) or not first.HasField("start"):
            raise InputError("an upload begins with UploadStart", field="start")
        call.request_id = call.checked_id(first.start.request_id)
        return decode_start(first.start, self._settings)

    async def _finish(self, call: Call, arriving: Receiving, start: Start, finish: wire.UploadFinish) -> wire.UploadDatasetResponse:
        digests = decode_digests(finish, len(start.columns))
        entry, content, known = await self._uploads.finish(arriving, start, finish.sample_count, digests)
        return wire.UploadDatasetResponse(request_id=call.request_id, dataset=encode_dataset(entry, content), already_known=known)

    async def describe_upload(self, call: Call, request: wire.DescribeUploadRequest) -> wire.DescribeUploadResponse:
        """Says from where to resume."""
        received = await self._uploads.describe(call.principal.namespace, request.upload_id)
        return wire.DescribeUploadResponse(request_id=request.request_id, received=received)

    async def list_datasets(self, call: Call, request: wire.ListDatasetsRequest) -> wire.ListDatasetsResponse:
        """All of them, by name."""
        found = await self._catalogue.listed(call.principal.namespace)
        return wire.ListDatasetsResponse(request_id=request.request_id, datasets=[encode_dataset(*pair) for pair in found])

    async def describe_dataset(self, call: Call, request: wire.DescribeDatasetRequest) -> wire.DescribeDatasetResponse:
        """One of them, by name or id."""
        found = await self._catalogue.describe(call.principal.namespace, request.dataset)
        return wire.DescribeDatasetResponse(request_id=request.request_id, dataset=encode_dataset(*found))

    async def delete_dataset(self, call: Call, request: wire.DeleteDatasetRequest) -> wire.DeleteDatasetResponse:
        """Forgets a name, or all names of an id."""
        await self._catalogue.delete(call.principal.namespace, request.dataset)
        return wire.DeleteDatasetResponse(request_id=request.request_id)
