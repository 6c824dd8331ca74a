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
REDUCTION_UNSPECIFIED: Reduction
REDUCTION_SUM: Reduction
REDUCTION_MEAN: Reduction
EVALUATOR_UNSPECIFIED: Evaluator
EVALUATOR_REFERENCE: Evaluator
EVALUATOR_COMPILED: Evaluator
PRECISION_UNSPECIFIED: Precision
PRECISION_F64: Precision
PRECISION_F32: Precision

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
    __slots__ = ("request_id", "graph_id", "parameters", "inputs", "wrt", "reduction", "evaluator", "debug", "precision")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    WRT_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    EVALUATOR_FIELD_NUMBER: _ClassVar[int]
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    graph_id: str
    parameters: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    inputs: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    wrt: _containers.RepeatedScalarFieldContainer[str]
    reduction: Reduction
    evaluator: Evaluator
    debug: bool
    precision: Precision
    def __init__(self, request_id: _Optional[str] = ..., graph_id: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., wrt: _Optional[_Iterable[str]] = ..., reduction: _Optional[_Union[Reduction, str]] = ..., evaluator: _Optional[_Union[Evaluator, str]] = ..., debug: bool = ..., precision: _Optional[_Union[Precision, str]] = ...) -> None: ...

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
    __slots__ = ("request_id", "graph_id", "parameters", "inputs", "evaluator", "debug", "precision")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    EVALUATOR_FIELD_NUMBER: _ClassVar[int]
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    graph_id: str
    parameters: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    inputs: _containers.RepeatedCompositeFieldContainer[_graph_pb2.NamedArray]
    evaluator: Evaluator
    debug: bool
    precision: Precision
    def __init__(self, request_id: _Optional[str] = ..., graph_id: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[_graph_pb2.NamedArray, _Mapping]]] = ..., evaluator: _Optional[_Union[Evaluator, str]] = ..., debug: bool = ..., precision: _Optional[_Union[Precision, str]] = ...) -> None: ...

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
