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

class RunState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_STATE_UNSPECIFIED: _ClassVar[RunState]
    RUN_STATE_WAITING: _ClassVar[RunState]
    RUN_STATE_RUNNING: _ClassVar[RunState]
    RUN_STATE_FINISHED: _ClassVar[RunState]
    RUN_STATE_STOPPED: _ClassVar[RunState]

class MemberState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_STATE_UNSPECIFIED: _ClassVar[MemberState]
    MEMBER_STATE_JOINED: _ClassVar[MemberState]
    MEMBER_STATE_WORKING: _ClassVar[MemberState]
    MEMBER_STATE_DONE: _ClassVar[MemberState]
    MEMBER_STATE_LEFT: _ClassVar[MemberState]
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
RUN_STATE_UNSPECIFIED: RunState
RUN_STATE_WAITING: RunState
RUN_STATE_RUNNING: RunState
RUN_STATE_FINISHED: RunState
RUN_STATE_STOPPED: RunState
MEMBER_STATE_UNSPECIFIED: MemberState
MEMBER_STATE_JOINED: MemberState
MEMBER_STATE_WORKING: MemberState
MEMBER_STATE_DONE: MemberState
MEMBER_STATE_LEFT: MemberState

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

class RunSpecification(_message.Message):
    __slots__ = ("graph_id", "reduction", "evaluator", "precision", "optimizer", "members", "min_members", "lease_seconds", "step_timeout_seconds", "max_steps")
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    EVALUATOR_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    MIN_MEMBERS_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEP_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    graph_id: str
    reduction: Reduction
    evaluator: Evaluator
    precision: Precision
    optimizer: Optimizer
    members: int
    min_members: int
    lease_seconds: float
    step_timeout_seconds: float
    max_steps: int
    def __init__(self, graph_id: _Optional[str] = ..., reduction: _Optional[_Union[Reduction, str]] = ..., evaluator: _Optional[_Union[Evaluator, str]] = ..., precision: _Optional[_Union[Precision, str]] = ..., optimizer: _Optional[_Union[Optimizer, _Mapping]] = ..., members: _Optional[int] = ..., min_members: _Optional[int] = ..., lease_seconds: _Optional[float] = ..., step_timeout_seconds: _Optional[float] = ..., max_steps: _Optional[int] = ...) -> None: ...

class Optimizer(_message.Message):
    __slots__ = ("sgd", "adam", "adamw", "learning_rate", "clip_norm", "clip_value")
    SGD_FIELD_NUMBER: _ClassVar[int]
    ADAM_FIELD_NUMBER: _ClassVar[int]
    ADAMW_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    CLIP_NORM_FIELD_NUMBER: _ClassVar[int]
    CLIP_VALUE_FIELD_NUMBER: _ClassVar[int]
    sgd: SGD
    adam: Adam
    adamw: AdamW
    learning_rate: Schedule
    clip_norm: float
    clip_value: float
    def __init__(self, sgd: _Optional[_Union[SGD, _Mapping]] = ..., adam: _Optional[_Union[Adam, _Mapping]] = ..., adamw: _Optional[_Union[AdamW, _Mapping]] = ..., learning_rate: _Optional[_Union[Schedule, _Mapping]] = ..., clip_norm: _Optional[float] = ..., clip_value: _Optional[float] = ...) -> None: ...

class SGD(_message.Message):
    __slots__ = ("momentum", "nesterov", "weight_decay")
    MOMENTUM_FIELD_NUMBER: _ClassVar[int]
    NESTEROV_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    momentum: float
    nesterov: bool
    weight_decay: float
    def __init__(self, momentum: _Optional[float] = ..., nesterov: bool = ..., weight_decay: _Optional[float] = ...) -> None: ...

class Adam(_message.Message):
    __slots__ = ("beta1", "beta2", "epsilon", "weight_decay")
    BETA1_FIELD_NUMBER: _ClassVar[int]
    BETA2_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    def __init__(self, beta1: _Optional[float] = ..., beta2: _Optional[float] = ..., epsilon: _Optional[float] = ..., weight_decay: _Optional[float] = ...) -> None: ...

class AdamW(_message.Message):
    __slots__ = ("beta1", "beta2", "epsilon", "weight_decay")
    BETA1_FIELD_NUMBER: _ClassVar[int]
    BETA2_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    def __init__(self, beta1: _Optional[float] = ..., beta2: _Optional[float] = ..., epsilon: _Optional[float] = ..., weight_decay: _Optional[float] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ("rate", "warmup_steps", "step", "exponential", "cosine", "linear")
    RATE_FIELD_NUMBER: _ClassVar[int]
    WARMUP_STEPS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    EXPONENTIAL_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    LINEAR_FIELD_NUMBER: _ClassVar[int]
    rate: float
    warmup_steps: int
    step: StepDecay
    exponential: ExponentialDecay
    cosine: CosineDecay
    linear: LinearDecay
    def __init__(self, rate: _Optional[float] = ..., warmup_steps: _Optional[int] = ..., step: _Optional[_Union[StepDecay, _Mapping]] = ..., exponential: _Optional[_Union[ExponentialDecay, _Mapping]] = ..., cosine: _Optional[_Union[CosineDecay, _Mapping]] = ..., linear: _Optional[_Union[LinearDecay, _Mapping]] = ...) -> None: ...

class StepDecay(_message.Message):
    __slots__ = ("factor", "every")
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    EVERY_FIELD_NUMBER: _ClassVar[int]
    factor: float
    every: int
    def __init__(self, factor: _Optional[float] = ..., every: _Optional[int] = ...) -> None: ...

class ExponentialDecay(_message.Message):
    __slots__ = ("factor",)
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    factor: float
    def __init__(self, factor: _Optional[float] = ...) -> None: ...

class CosineDecay(_message.Message):
    __slots__ = ("final", "steps")
    FINAL_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    final: float
    steps: int
    def __init__(self, final: _Optional[float] = ..., steps: _Optional[int] = ...) -> None: ...

class LinearDecay(_message.Message):
    __slots__ = ("final", "steps")
    FINAL_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    final: float
    steps: int
    def __init__(self, final: _Optional[float] = ..., steps: _Optional[int] = ...) -> None: ...

class CreateRunRequest(_message.Message):
    __slots__ = ("request_id", "name", "specification", "parameters")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPECIFICATION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    specification: RunSpecification
    parameters: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., specification: _Optional[_Union[RunSpecification, _Mapping]] = ..., parameters: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ...) -> None: ...

class CreateRunResponse(_message.Message):
    __slots__ = ("request_id", "run", "already_known")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ALREADY_KNOWN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    run: Run
    already_known: bool
    def __init__(self, request_id: _Optional[str] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., already_known: bool = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("id", "name", "specification", "state", "step", "parameters", "members", "sample_count", "last", "created")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPECIFICATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    specification: RunSpecification
    state: RunState
    step: int
    parameters: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    members: _containers.RepeatedCompositeFieldContainer[RunMember]
    sample_count: int
    last: StepRecord
    created: int
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., specification: _Optional[_Union[RunSpecification, _Mapping]] = ..., state: _Optional[_Union[RunState, str]] = ..., step: _Optional[int] = ..., parameters: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., members: _Optional[_Iterable[_Union[RunMember, _Mapping]]] = ..., sample_count: _Optional[int] = ..., last: _Optional[_Union[StepRecord, _Mapping]] = ..., created: _Optional[int] = ...) -> None: ...

class RunMember(_message.Message):
    __slots__ = ("number", "name", "state", "steps", "sample_count", "silent_seconds")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SILENT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    number: int
    name: str
    state: MemberState
    steps: int
    sample_count: int
    silent_seconds: float
    def __init__(self, number: _Optional[int] = ..., name: _Optional[str] = ..., state: _Optional[_Union[MemberState, str]] = ..., steps: _Optional[int] = ..., sample_count: _Optional[int] = ..., silent_seconds: _Optional[float] = ...) -> None: ...

class StepRecord(_message.Message):
    __slots__ = ("step", "attempt", "value", "metrics", "sample_count", "members", "member_samples", "committed")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    MEMBER_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    step: int
    attempt: int
    value: float
    metrics: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    sample_count: int
    members: _containers.RepeatedScalarFieldContainer[int]
    member_samples: _containers.RepeatedScalarFieldContainer[int]
    committed: float
    def __init__(self, step: _Optional[int] = ..., attempt: _Optional[int] = ..., value: _Optional[float] = ..., metrics: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., sample_count: _Optional[int] = ..., members: _Optional[_Iterable[int]] = ..., member_samples: _Optional[_Iterable[int]] = ..., committed: _Optional[float] = ...) -> None: ...

class JoinRunRequest(_message.Message):
    __slots__ = ("request_id", "run", "member", "session")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    run: str
    member: str
    session: str
    def __init__(self, request_id: _Optional[str] = ..., run: _Optional[str] = ..., member: _Optional[str] = ..., session: _Optional[str] = ...) -> None: ...

class JoinRunResponse(_message.Message):
    __slots__ = ("request_id", "run", "number", "session")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    run: Run
    number: int
    session: str
    def __init__(self, request_id: _Optional[str] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., number: _Optional[int] = ..., session: _Optional[str] = ...) -> None: ...

class StepRequest(_message.Message):
    __slots__ = ("attach", "contribution", "heartbeat", "leave")
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    attach: Attach
    contribution: Contribution
    heartbeat: Heartbeat
    leave: Leave
    def __init__(self, attach: _Optional[_Union[Attach, _Mapping]] = ..., contribution: _Optional[_Union[Contribution, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ...) -> None: ...

class Attach(_message.Message):
    __slots__ = ("run", "number", "session", "count")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    run: str
    number: int
    session: str
    count: int
    def __init__(self, run: _Optional[str] = ..., number: _Optional[int] = ..., session: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Leave(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("step", "attempt", "minibatch", "rows", "gradient", "nothing", "parameters")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MINIBATCH_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    NOTHING_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    step: int
    attempt: int
    minibatch: Minibatch
    rows: ResidentRows
    gradient: OwnGradient
    nothing: Nothing
    parameters: bytes
    def __init__(self, step: _Optional[int] = ..., attempt: _Optional[int] = ..., minibatch: _Optional[_Union[Minibatch, _Mapping]] = ..., rows: _Optional[_Union[ResidentRows, _Mapping]] = ..., gradient: _Optional[_Union[OwnGradient, _Mapping]] = ..., nothing: _Optional[_Union[Nothing, _Mapping]] = ..., parameters: _Optional[bytes] = ...) -> None: ...

class Minibatch(_message.Message):
    __slots__ = ("inputs",)
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    def __init__(self, inputs: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ...) -> None: ...

class ResidentRows(_message.Message):
    __slots__ = ("dataset", "rows")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    rows: Rows
    def __init__(self, dataset: _Optional[str] = ..., rows: _Optional[_Union[Rows, _Mapping]] = ...) -> None: ...

class OwnGradient(_message.Message):
    __slots__ = ("value", "gradient", "sample_count", "metrics")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    value: float
    gradient: bytes
    sample_count: int
    metrics: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    def __init__(self, value: _Optional[float] = ..., gradient: _Optional[bytes] = ..., sample_count: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ...) -> None: ...

class Nothing(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StepResponse(_message.Message):
    __slots__ = ("turn", "ended", "error")
    TURN_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    turn: Turn
    ended: Ended
    error: StreamError
    def __init__(self, turn: _Optional[_Union[Turn, _Mapping]] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ..., error: _Optional[_Union[StreamError, _Mapping]] = ...) -> None: ...

class Turn(_message.Message):
    __slots__ = ("step", "attempt", "members", "parameters", "committed")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    step: int
    attempt: int
    members: _containers.RepeatedScalarFieldContainer[int]
    parameters: bytes
    committed: Committed
    def __init__(self, step: _Optional[int] = ..., attempt: _Optional[int] = ..., members: _Optional[_Iterable[int]] = ..., parameters: _Optional[bytes] = ..., committed: _Optional[_Union[Committed, _Mapping]] = ...) -> None: ...

class Committed(_message.Message):
    __slots__ = ("record", "gradient")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    record: StepRecord
    gradient: bytes
    def __init__(self, record: _Optional[_Union[StepRecord, _Mapping]] = ..., gradient: _Optional[bytes] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ("state", "step", "parameters", "committed")
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    state: RunState
    step: int
    parameters: bytes
    committed: Committed
    def __init__(self, state: _Optional[_Union[RunState, str]] = ..., step: _Optional[int] = ..., parameters: _Optional[bytes] = ..., committed: _Optional[_Union[Committed, _Mapping]] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("request_id", "run", "parameters", "ledger_from")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FROM_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    run: str
    parameters: bool
    ledger_from: int
    def __init__(self, request_id: _Optional[str] = ..., run: _Optional[str] = ..., parameters: bool = ..., ledger_from: _Optional[int] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("request_id", "run", "parameters", "ledger")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    run: Run
    parameters: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    ledger: _containers.RepeatedCompositeFieldContainer[StepRecord]
    def __init__(self, request_id: _Optional[str] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., parameters: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., ledger: _Optional[_Iterable[_Union[StepRecord, _Mapping]]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("request_id", "runs")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    def __init__(self, request_id: _Optional[str] = ..., runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("request_id", "run", "from_step")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    FROM_STEP_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    run: str
    from_step: int
    def __init__(self, request_id: _Optional[str] = ..., run: _Optional[str] = ..., from_step: _Optional[int] = ...) -> None: ...

class RunProgress(_message.Message):
    __slots__ = ("request_id", "run", "steps")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    run: Run
    steps: _containers.RepeatedCompositeFieldContainer[StepRecord]
    def __init__(self, request_id: _Optional[str] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[StepRecord, _Mapping]]] = ...) -> None: ...

class StopRunRequest(_message.Message):
    __slots__ = ("request_id", "run", "forget")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    run: str
    forget: bool
    def __init__(self, request_id: _Optional[str] = ..., run: _Optional[str] = ..., forget: bool = ...) -> None: ...

class StopRunResponse(_message.Message):
    __slots__ = ("request_id", "run")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    run: Run
    def __init__(self, request_id: _Optional[str] = ..., run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...
