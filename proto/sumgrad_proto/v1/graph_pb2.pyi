from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    DTYPE_F64: _ClassVar[DType]
    DTYPE_F32: _ClassVar[DType]
    DTYPE_I64: _ClassVar[DType]
    DTYPE_I32: _ClassVar[DType]
    DTYPE_BOOL: _ClassVar[DType]

class Opcode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPCODE_UNSPECIFIED: _ClassVar[Opcode]
    OPCODE_INPUT: _ClassVar[Opcode]
    OPCODE_PARAMETER: _ClassVar[Opcode]
    OPCODE_SCALAR: _ClassVar[Opcode]
    OPCODE_CONSTANT: _ClassVar[Opcode]
    OPCODE_NEGATIVE: _ClassVar[Opcode]
    OPCODE_ADD: _ClassVar[Opcode]
    OPCODE_SUBTRACT: _ClassVar[Opcode]
    OPCODE_MULTIPLY: _ClassVar[Opcode]
    OPCODE_DIVIDE: _ClassVar[Opcode]
    OPCODE_POW: _ClassVar[Opcode]
    OPCODE_ABS: _ClassVar[Opcode]
    OPCODE_SIGN: _ClassVar[Opcode]
    OPCODE_SQRT: _ClassVar[Opcode]
    OPCODE_SQUARE: _ClassVar[Opcode]
    OPCODE_RECIPROCAL: _ClassVar[Opcode]
    OPCODE_MAXIMUM: _ClassVar[Opcode]
    OPCODE_MINIMUM: _ClassVar[Opcode]
    OPCODE_HYPOT: _ClassVar[Opcode]
    OPCODE_EXP: _ClassVar[Opcode]
    OPCODE_EXPM1: _ClassVar[Opcode]
    OPCODE_LOG: _ClassVar[Opcode]
    OPCODE_LOG1P: _ClassVar[Opcode]
    OPCODE_SIN: _ClassVar[Opcode]
    OPCODE_COS: _ClassVar[Opcode]
    OPCODE_TAN: _ClassVar[Opcode]
    OPCODE_ASIN: _ClassVar[Opcode]
    OPCODE_ACOS: _ClassVar[Opcode]
    OPCODE_ATAN: _ClassVar[Opcode]
    OPCODE_ATAN2: _ClassVar[Opcode]
    OPCODE_SINH: _ClassVar[Opcode]
    OPCODE_COSH: _ClassVar[Opcode]
    OPCODE_TANH: _ClassVar[Opcode]
    OPCODE_ASINH: _ClassVar[Opcode]
    OPCODE_ACOSH: _ClassVar[Opcode]
    OPCODE_ATANH: _ClassVar[Opcode]
    OPCODE_RELU: _ClassVar[Opcode]
    OPCODE_SIGMOID: _ClassVar[Opcode]
    OPCODE_SOFTPLUS: _ClassVar[Opcode]
    OPCODE_ERF: _ClassVar[Opcode]
    OPCODE_ERFC: _ClassVar[Opcode]
    OPCODE_LGAMMA: _ClassVar[Opcode]
    OPCODE_DIGAMMA: _ClassVar[Opcode]
    OPCODE_POLYGAMMA: _ClassVar[Opcode]
    OPCODE_LESS: _ClassVar[Opcode]
    OPCODE_LESS_EQUAL: _ClassVar[Opcode]
    OPCODE_EQUAL: _ClassVar[Opcode]
    OPCODE_NOT_EQUAL: _ClassVar[Opcode]
    OPCODE_LOGICAL_AND: _ClassVar[Opcode]
    OPCODE_LOGICAL_OR: _ClassVar[Opcode]
    OPCODE_LOGICAL_NOT: _ClassVar[Opcode]
    OPCODE_WHERE: _ClassVar[Opcode]
    OPCODE_CAST_FLOAT: _ClassVar[Opcode]
    OPCODE_RESHAPE: _ClassVar[Opcode]
    OPCODE_TRANSPOSE: _ClassVar[Opcode]
    OPCODE_BROADCAST_TO: _ClassVar[Opcode]
    OPCODE_SUM: _ClassVar[Opcode]
    OPCODE_MAX: _ClassVar[Opcode]
    OPCODE_LOGSUMEXP: _ClassVar[Opcode]
    OPCODE_MATMUL: _ClassVar[Opcode]
    OPCODE_CONCAT: _ClassVar[Opcode]
    OPCODE_SLICE: _ClassVar[Opcode]
    OPCODE_PAD: _ClassVar[Opcode]
    OPCODE_TAKE: _ClassVar[Opcode]
    OPCODE_SCATTER_ADD: _ClassVar[Opcode]
    OPCODE_ONE_HOT: _ClassVar[Opcode]
    OPCODE_FLIP: _ClassVar[Opcode]
    OPCODE_SUM_SAMPLES: _ClassVar[Opcode]
    OPCODE_MATMUL_SAMPLES: _ClassVar[Opcode]
    OPCODE_SCATTER_ADD_SAMPLES: _ClassVar[Opcode]
DTYPE_UNSPECIFIED: DType
DTYPE_F64: DType
DTYPE_F32: DType
DTYPE_I64: DType
DTYPE_I32: DType
DTYPE_BOOL: DType
OPCODE_UNSPECIFIED: Opcode
OPCODE_INPUT: Opcode
OPCODE_PARAMETER: Opcode
OPCODE_SCALAR: Opcode
OPCODE_CONSTANT: Opcode
OPCODE_NEGATIVE: Opcode
OPCODE_ADD: Opcode
OPCODE_SUBTRACT: Opcode
OPCODE_MULTIPLY: Opcode
OPCODE_DIVIDE: Opcode
OPCODE_POW: Opcode
OPCODE_ABS: Opcode
OPCODE_SIGN: Opcode
OPCODE_SQRT: Opcode
OPCODE_SQUARE: Opcode
OPCODE_RECIPROCAL: Opcode
OPCODE_MAXIMUM: Opcode
OPCODE_MINIMUM: Opcode
OPCODE_HYPOT: Opcode
OPCODE_EXP: Opcode
OPCODE_EXPM1: Opcode
OPCODE_LOG: Opcode
OPCODE_LOG1P: Opcode
OPCODE_SIN: Opcode
OPCODE_COS: Opcode
OPCODE_TAN: Opcode
OPCODE_ASIN: Opcode
OPCODE_ACOS: Opcode
OPCODE_ATAN: Opcode
OPCODE_ATAN2: Opcode
OPCODE_SINH: Opcode
OPCODE_COSH: Opcode
OPCODE_TANH: Opcode
OPCODE_ASINH: Opcode
OPCODE_ACOSH: Opcode
OPCODE_ATANH: Opcode
OPCODE_RELU: Opcode
OPCODE_SIGMOID: Opcode
OPCODE_SOFTPLUS: Opcode
OPCODE_ERF: Opcode
OPCODE_ERFC: Opcode
OPCODE_LGAMMA: Opcode
OPCODE_DIGAMMA: Opcode
OPCODE_POLYGAMMA: Opcode
OPCODE_LESS: Opcode
OPCODE_LESS_EQUAL: Opcode
OPCODE_EQUAL: Opcode
OPCODE_NOT_EQUAL: Opcode
OPCODE_LOGICAL_AND: Opcode
OPCODE_LOGICAL_OR: Opcode
OPCODE_LOGICAL_NOT: Opcode
OPCODE_WHERE: Opcode
OPCODE_CAST_FLOAT: Opcode
OPCODE_RESHAPE: Opcode
OPCODE_TRANSPOSE: Opcode
OPCODE_BROADCAST_TO: Opcode
OPCODE_SUM: Opcode
OPCODE_MAX: Opcode
OPCODE_LOGSUMEXP: Opcode
OPCODE_MATMUL: Opcode
OPCODE_CONCAT: Opcode
OPCODE_SLICE: Opcode
OPCODE_PAD: Opcode
OPCODE_TAKE: Opcode
OPCODE_SCATTER_ADD: Opcode
OPCODE_ONE_HOT: Opcode
OPCODE_FLIP: Opcode
OPCODE_SUM_SAMPLES: Opcode
OPCODE_MATMUL_SAMPLES: Opcode
OPCODE_SCATTER_ADD_SAMPLES: Opcode

class Array(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class NamedArray(_message.Message):
    __slots__ = ("name", "array")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    name: str
    array: Array
    def __init__(self, name: _Optional[str] = ..., array: _Optional[_Union[Array, _Mapping]] = ...) -> None: ...

class Leaf(_message.Message):
    __slots__ = ("name", "shape", "dtype")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: DType
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[_Union[DType, str]] = ...) -> None: ...

class Attribute(_message.Message):
    __slots__ = ("node", "name", "values")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    node: int
    name: str
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, node: _Optional[int] = ..., name: _Optional[str] = ..., values: _Optional[_Iterable[int]] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("name", "node")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    name: str
    node: int
    def __init__(self, name: _Optional[str] = ..., node: _Optional[int] = ...) -> None: ...

class Graph(_message.Message):
    __slots__ = ("opcodes", "operand_counts", "operands", "attributes", "inputs", "parameters", "scalars", "constants", "outputs")
    OPCODES_FIELD_NUMBER: _ClassVar[int]
    OPERAND_COUNTS_FIELD_NUMBER: _ClassVar[int]
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SCALARS_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    opcodes: _containers.RepeatedScalarFieldContainer[Opcode]
    operand_counts: _containers.RepeatedScalarFieldContainer[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    attributes: _containers.RepeatedCompositeFieldContainer[Attribute]
    inputs: _containers.RepeatedCompositeFieldContainer[Leaf]
    parameters: _containers.RepeatedCompositeFieldContainer[Leaf]
    scalars: _containers.RepeatedScalarFieldContainer[float]
    constants: _containers.RepeatedCompositeFieldContainer[Array]
    outputs: _containers.RepeatedCompositeFieldContainer[Output]
    def __init__(self, opcodes: _Optional[_Iterable[_Union[Opcode, str]]] = ..., operand_counts: _Optional[_Iterable[int]] = ..., operands: _Optional[_Iterable[int]] = ..., attributes: _Optional[_Iterable[_Union[Attribute, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[Leaf, _Mapping]]] = ..., parameters: _Optional[_Iterable[_Union[Leaf, _Mapping]]] = ..., scalars: _Optional[_Iterable[float]] = ..., constants: _Optional[_Iterable[_Union[Array, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Output, _Mapping]]] = ...) -> None: ...

class SourceMap(_message.Message):
    __slots__ = ("files", "file", "line")
    FILES_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedScalarFieldContainer[str]
    file: _containers.RepeatedScalarFieldContainer[int]
    line: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, files: _Optional[_Iterable[str]] = ..., file: _Optional[_Iterable[int]] = ..., line: _Optional[_Iterable[int]] = ...) -> None: ...
