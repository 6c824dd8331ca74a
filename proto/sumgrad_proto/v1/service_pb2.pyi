from sumgrad_proto.v1 import graph_pb2 as _graph_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reduction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REDUCTION_UNSPECIFIED: _ClassVar[Reduction]
    REDUCTION_SUM: _ClassVar[Reduction]
    REDUCTION_MEAN: _ClassVar[Reduction]

class Evaluator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVALUATOR_UNSPECIFIED: _ClassVar[Evaluator]
    EVALUATOR_REFERENCE: _ClassVar[Evaluator]
    EVALUATOR_COMPILED: _ClassVar[Evaluator]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_F64: _ClassVar[Precision]
    PRECISION_F32: _ClassVar[Precision]

class WorkerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER_STATE_UNSPECIFIED: _ClassVar[WorkerState]
    WORKER_STATE_STARTING: _ClassVar[WorkerState]
    WORKER_STATE_IDLE: _ClassVar[WorkerState]
    WORKER_STATE_BUSY: _ClassVar[WorkerState]
REDUCTION_UNSPECIFIED: Reduction
REDUCTION_SUM: Reduction
REDUCTION_MEAN: Reduction
EVALUATOR_UNSPECIFIED: Evaluator
EVALUATOR_REFERENCE: Evaluator
EVALUATOR_COMPILED: Evaluator
PRECISION_UNSPECIFIED: Precision
PRECISION_F64: Precision
PRECISION_F32: Precision
WORKER_STATE_UNSPECIFIED: WorkerState
WORKER_STATE_STARTING: WorkerState
WORKER_STATE_IDLE: WorkerState
WORKER_STATE_BUSY: WorkerState

class RegisterGraphRequest(_message.Message):
    __slots__ = ("request_id", "graph", "sources")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    graph: bytes
    sources: _graph_pb2.SourceMap
    def __init__(self, request_id: _Optional[str] = ..., graph: _Optional[bytes] = ..., sources: _Optional[_Union[_graph_pb2.SourceMap, _Mapping]] = ...) -> None: ...

class RegisterGraphResponse(_message.Message):
    __slots__ = ("request_id", "graph_id", "already_known", "node_count")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    ALREADY_KNOWN_FIELD_NUMBER: _ClassVar[int]
    NODE_COUNT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    graph_id: str
    already_known: bool
    node_count: int
    def __init__(self, request_id: _Optional[str] = ..., graph_id: _Optional[str] = ..., already_known: bool = ..., node_count: _Optional[int] = ...) -> None: ...

class GetGraphRequest(_message.Message):
    __slots__ = ("request_id", "graph_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    graph_id: str
    def __init__(self, request_id: _Optional[str] = ..., graph_id: _Optional[str] = ...) -> None: ...

class GetGraphResponse(_message.Message):
    __slots__ = ("request_id", "graph", "sources")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    graph: bytes
    sources: _graph_pb2.SourceMap
    def __init__(self, request_id: _Optional[str] = ..., graph: _Optional[bytes] = ..., sources: _Optional[_Union[_graph_pb2.SourceMap, _Mapping]] = ...) -> None: ...

class GradientRequest(_message.Message):
    __slots__ = ("request_id", "graph_id", "parameters", "inputs", "wrt", "reduction", "evaluator", "debug", "precision", "dataset", "rows")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    WRT_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    EVALUATOR_FIELD_NUMBER: _ClassVar[int]
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    graph_id: str
    parameters: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    inputs: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    wrt: _containers.RepeatedScalarFieldContainer[str]
    reduction: Reduction
    evaluator: Evaluator
    debug: bool
    precision: Precision
    dataset: str
    rows: Rows
    def __init__(self, request_id: _Optional[str] = ..., graph_id: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., wrt: _Optional[_Iterable[str]] = ..., reduction: _Optional[_Union[Reduction, str]] = ..., evaluator: _Optional[_Union[Evaluator, str]] = ..., debug: bool = ..., precision: _Optional[_Union[Precision, str]] = ..., dataset: _Optional[str] = ..., rows: _Optional[_Union[Rows, _Mapping]] = ...) -> None: ...

class Rows(_message.Message):
    __slots__ = ("range", "indices")
    RANGE_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    range: RowRange
    indices: _graph_pb2.Array
    def __init__(self, range: _Optional[_Union[RowRange, _Mapping]] = ..., indices: _Optional[_Union[_graph_pb2.Array, _Mapping]] = ...) -> None: ...

class RowRange(_message.Message):
    __slots__ = ("start", "stop")
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    start: int
    stop: int
    def __init__(self, start: _Optional[int] = ..., stop: _Optional[int] = ...) -> None: ...

class GradientResponse(_message.Message):
    __slots__ = ("request_id", "value", "gradients", "metrics", "sample_count", "evaluator")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    EVALUATOR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    value: float
    gradients: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    metrics: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    sample_count: int
    evaluator: Evaluator
    def __init__(self, request_id: _Optional[str] = ..., value: _Optional[float] = ..., gradients: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., metrics: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., sample_count: _Optional[int] = ..., evaluator: _Optional[_Union[Evaluator, str]] = ...) -> None: ...

class EvaluateRequest(_message.Message):
    __slots__ = ("request_id", "graph_id", "parameters", "inputs", "evaluator", "debug", "precision", "dataset", "rows")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    EVALUATOR_FIELD_NUMBER: _ClassVar[int]
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    graph_id: str
    parameters: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    inputs: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    evaluator: Evaluator
    debug: bool
    precision: Precision
    dataset: str
    rows: Rows
    def __init__(self, request_id: _Optional[str] = ..., graph_id: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., evaluator: _Optional[_Union[Evaluator, str]] = ..., debug: bool = ..., precision: _Optional[_Union[Precision, str]] = ..., dataset: _Optional[str] = ..., rows: _Optional[_Union[Rows, _Mapping]] = ...) -> None: ...

class EvaluateResponse(_message.Message):
    __slots__ = ("request_id", "first_sample", "sample_count", "outputs", "evaluator")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    EVALUATOR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    first_sample: int
    sample_count: int
    outputs: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    evaluator: Evaluator
    def __init__(self, request_id: _Optional[str] = ..., first_sample: _Optional[int] = ..., sample_count: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., evaluator: _Optional[_Union[Evaluator, str]] = ...) -> None: ...

class BackwardRequest(_message.Message):
    __slots__ = ("request_id", "graph", "sources")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    graph: bytes
    sources: _graph_pb2.SourceMap
    def __init__(self, request_id: _Optional[str] = ..., graph: _Optional[bytes] = ..., sources: _Optional[_Union[_graph_pb2.SourceMap, _Mapping]] = ...) -> None: ...

class BackwardResponse(_message.Message):
    __slots__ = ("request_id", "data", "gradients")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    data: bytes
    gradients: bytes
    def __init__(self, request_id: _Optional[str] = ..., data: _Optional[bytes] = ..., gradients: _Optional[bytes] = ...) -> None: ...

class GradientStreamResponse(_message.Message):
    __slots__ = ("gradient", "error")
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    gradient: GradientResponse
    error: StreamError
    def __init__(self, gradient: _Optional[_Union[GradientResponse, _Mapping]] = ..., error: _Optional[_Union[StreamError, _Mapping]] = ...) -> None: ...

class StreamError(_message.Message):
    __slots__ = ("code", "message", "details", "request_id")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: bytes
    request_id: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[bytes] = ..., request_id: _Optional[str] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "dtype", "shape", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: _graph_pb2.DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    sha256: bytes
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[_graph_pb2.DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class Dataset(_message.Message):
    __slots__ = ("id", "name", "sample_count", "columns", "byte_count", "created")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    BYTE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    sample_count: int
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    byte_count: int
    created: int
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., sample_count: _Optional[int] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., byte_count: _Optional[int] = ..., created: _Optional[int] = ...) -> None: ...

class UploadDatasetRequest(_message.Message):
    __slots__ = ("start", "chunk", "finish")
    START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    start: UploadStart
    chunk: UploadChunk
    finish: UploadFinish
    def __init__(self, start: _Optional[_Union[UploadStart, _Mapping]] = ..., chunk: _Optional[_Union[UploadChunk, _Mapping]] = ..., finish: _Optional[_Union[UploadFinish, _Mapping]] = ...) -> None: ...

class UploadStart(_message.Message):
    __slots__ = ("request_id", "upload_id", "name", "columns", "replace")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    upload_id: str
    name: str
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    replace: bool
    def __init__(self, request_id: _Optional[str] = ..., upload_id: _Optional[str] = ..., name: _Optional[str] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., replace: bool = ...) -> None: ...

class UploadChunk(_message.Message):
    __slots__ = ("column", "offset", "data")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    column: int
    offset: int
    data: bytes
    def __init__(self, column: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class UploadFinish(_message.Message):
    __slots__ = ("sample_count", "sha256")
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sample_count: int
    sha256: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, sample_count: _Optional[int] = ..., sha256: _Optional[_Iterable[bytes]] = ...) -> None: ...

class UploadDatasetResponse(_message.Message):
    __slots__ = ("request_id", "dataset", "already_known")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ALREADY_KNOWN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    dataset: Dataset
    already_known: bool
    def __init__(self, request_id: _Optional[str] = ..., dataset: _Optional[_Union[Dataset, _Mapping]] = ..., already_known: bool = ...) -> None: ...

class DescribeUploadRequest(_message.Message):
    __slots__ = ("request_id", "upload_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    upload_id: str
    def __init__(self, request_id: _Optional[str] = ..., upload_id: _Optional[str] = ...) -> None: ...

class DescribeUploadResponse(_message.Message):
    __slots__ = ("request_id", "received")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    received: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, request_id: _Optional[str] = ..., received: _Optional[_Iterable[int]] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class ListDatasetsResponse(_message.Message):
    __slots__ = ("request_id", "datasets")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    datasets: _containers.RepeatedCompositeFieldContainer[Dataset]
    def __init__(self, request_id: _Optional[str] = ..., datasets: _Optional[_Iterable[_Union[Dataset, _Mapping]]] = ...) -> None: ...

class DescribeDatasetRequest(_message.Message):
    __slots__ = ("request_id", "dataset")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    dataset: str
    def __init__(self, request_id: _Optional[str] = ..., dataset: _Optional[str] = ...) -> None: ...

class DescribeDatasetResponse(_message.Message):
    __slots__ = ("request_id", "dataset")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    dataset: Dataset
    def __init__(self, request_id: _Optional[str] = ..., dataset: _Optional[_Union[Dataset, _Mapping]] = ...) -> None: ...

class DeleteDatasetRequest(_message.Message):
    __slots__ = ("request_id", "dataset")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    dataset: str
    def __init__(self, request_id: _Optional[str] = ..., dataset: _Optional[str] = ...) -> None: ...

class DeleteDatasetResponse(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("request_id", "version", "uptime_seconds", "draining", "workers", "active_requests", "finished_requests", "failed_requests", "summed_samples", "worker_restarts", "graphs", "datasets", "dataset_bytes")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SUMMED_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    WORKER_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    DATASET_BYTES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    version: str
    uptime_seconds: float
    draining: bool
    workers: _containers.RepeatedCompositeFieldContainer[WorkerStatus]
    active_requests: int
    finished_requests: int
    failed_requests: int
    summed_samples: int
    worker_restarts: int
    graphs: int
    datasets: int
    dataset_bytes: int
    def __init__(self, request_id: _Optional[str] = ..., version: _Optional[str] = ..., uptime_seconds: _Optional[float] = ..., draining: bool = ..., workers: _Optional[_Iterable[_Union[WorkerStatus, _Mapping]]] = ..., active_requests: _Optional[int] = ..., finished_requests: _Optional[int] = ..., failed_requests: _Optional[int] = ..., summed_samples: _Optional[int] = ..., worker_restarts: _Optional[int] = ..., graphs: _Optional[int] = ..., datasets: _Optional[int] = ..., dataset_bytes: _Optional[int] = ...) -> None: ...

class WorkerStatus(_message.Message):
    __slots__ = ("number", "process_id", "state", "finished_shards")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FINISHED_SHARDS_FIELD_NUMBER: _ClassVar[int]
    number: int
    process_id: int
    state: WorkerState
    finished_shards: int
    def __init__(self, number: _Optional[int] = ..., process_id: _Optional[int] = ..., state: _Optional[_Union[WorkerState, str]] = ..., finished_shards: _Optional[int] = ...) -> None: ...
