"""What generated code is made of: LLVM IR for IEEE operations on some samples at a time.

A value is the name of an LLVM register or a constant, as text. `Lanes` says how many samples lie side by side in it: 8 f64 or 16 f32 for what
differs from sample to sample, 1 for what all samples share. Whatever the machine's vectors are, these widths are the same, and nothing here lets LLVM
reorder or contract floating-point operations: so every machine with fused multiply-add computes the same bits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

Body = Callable[..., str]
"""(lanes, *arguments) -> result: emits the body of a vector function."""


@dataclass(frozen=True)
class Precision:
    """A format of floating-point numbers."""

    name: str
    float: str
    """LLVM's name of the type."""
    bits: int
    mantissa: int
    """Bits of the fraction that are stored."""
    lanes: int
    """Samples that are computed side by side: 64 bytes of them."""

    @property
    def integer(self) -> str:
        """The integer type of the same width."""
        return f"i{self.bits}"

    @property
    def nbytes(self) -> int:
        """Bytes of one number."""
        return self.bits // 8


F64 = Precision("f64", "double", 64, 52, 8)
F32 = Precision("f32", "float", 32, 23, 16)
PRECISIONS = {p.name: p for p in (F64, F32)}


@dataclass
class Module:
    """Functions under construction, and what they need: declarations of intrinsics, vector functions that are defined once."""

    library: dict[str, Body] = field(default_factory=dict)
    """Vector functions by name: defined in the module when they are first called."""
    inline: bool = True
    """Whether vector functions are copied into their callers: faster code, and more of it to compile."""
    functions: dict[str, str] = field(default_factory=dict)
    declarations: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The module in LLVM's assembly language."""
        return "\n".join([*self.declarations.values(), *self.functions.values()])

    def define(self, name: str, result: str, parameters: Sequence[tuple[str, str]], lines: Sequence[str], attributes: str = "") -> None:
        """Adds a function: `parameters` are (type with attributes, name)."""
        signature = ", ".join(f"{of} {parameter}" for of, parameter in parameters)
        self.functions[name] = "\n".join([f"define {result} @{name}({signature}) {attributes} {{", "entry:", *lines, "}"])


def _literal(a: str) -> bool:
    return not a.startswith("%")


class Function:
    """Lines of one function under construction."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.lines: list[str] = []
        self.variables: list[str] = []
        self.block = "entry"
        self._count = 0
        self._known: dict[str, str] = {}

    def fresh(self) -> str:
        """A register's name that is not taken."""
        self._count += 1
        return f"%v{self._count}"

    def emit(self, expression: str) -> str:
        """A line that gives a value, which is named."""
        name = self.fresh()
        self.lines.append(f"{name} = {expression}")
        return name

    def plus(self, a: str, b: str) -> str:
        """The sum of two i64, computed here where both are constants."""
        if a == "0" or b == "0":
            return b if a == "0" else a
        return str(int(a) + int(b)) if _literal(a) and _literal(b) else self.once(f"add nsw i64 {a}, {b}")

    def times(self, a: str, factor: int) -> str:
        """A multiple of an i64, computed here where it is a constant."""
        if factor in (0, 1):
            return a if factor else "0"
        return str(int(a) * factor) if _literal(a) else self.once(f"mul nsw i64 {a}, {factor}")

    def offset(self, pointer: str, nbytes: str) -> str:
        """A pointer moved by some bytes."""
        return pointer if nbytes == "0" else self.once(f"getelementptr inbounds i8, ptr {pointer}, i64 {nbytes}")

    def once(self, expression: str) -> str:
        """A line that gives the same value wherever it stands: emitted once in a basic block."""
        if expression not in self._known:
            self._known[expression] = self.emit(expression)
        return self._known[expression]

    def do(self, line: str) -> None:
        """A line that gives no value."""
        self.lines.append(line)

    def variable(self, of: str, value: str) -> str:
        """A place for values of a type that change in loops, with a first value; LLVM keeps it in a register."""
        name = self.fresh()
        self.variables.append(f"{name} = alloca {of}")
        self.put(of, value, name)
        return name

    def put(self, of: str, value: str, name: str) -> None:
        """Changes a variable."""
        self.do(f"store {of} {value}, ptr {name}")

    def get(self, of: str, name: str) -> str:
        """The present value of a variable."""
        return self.emit(f"load {of}, ptr {name}")

    def define(self, name: str, signature: Sequence[tuple[str, str]]) -> None:
        """Ends the function, which returns nothing, and adds it to the module."""
        self.do("ret void")
        self.module.define(name, "void", signature, [*self.variables, *self.lines], "nounwind")

    def label(self) -> str:
        """A basic block's name that is not taken."""
        return self.fresh()[1:].replace("v", "block")

    def start(self, label: str) -> None:
        """Begins a basic block; the one before it must have ended with a branch."""
        self.lines.append(f"{label}:")
        self.block = label
        self._known.clear()

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """What is emitted inside runs if an i1 holds."""
        inside, after = self.label(), self.label()
        self.do(f"br i1 {condition}, label %{inside}, label %{after}")
        self.start(inside)
        yield
        self.do(f"br label %{after}")
        self.start(after)

    @contextmanager
    def loop(self, stop: str, step: int = 1, start: str = "0") -> Iterator[str]:
        """Counts an i64 from `start` up in steps; the body runs while it is below `stop`, and at least once."""
        before, head, after = self.block, self.label(), self.label()
        self.do(f"br label %{head}")
        self.start(head)
        place = len(self.lines)
        index = self.fresh()
        yield index
        following = self.emit(f"add nuw nsw i64 {index}, {step}")
        self.lines.insert(place, f"{index} = phi i64 [ {start}, %{before} ], [ {following}, %{self.block} ]")
        self.do(f"br i1 {self.emit(f'icmp slt i64 {following}, {stop}')}, label %{head}, label %{after}")
        self.start(after)


class Lanes:
    """IEEE operations on `width` samples at a time, emitted into a function."""

    def __init__(self, function: Function, precision: Precision, width: int) -> None:
        self.function, self.precision, self.width = function, precision, width
        self.float = self.vector(precision.float)
        self.bits = self.vector(precision.integer)
        """Integers as wide as the floats: what a float's bits are."""
        self.bool = self.vector("i1")
        self.index = self.vector("i64")
        """Integers of graphs."""
        self._suffix = ("" if width == 1 else f"v{width}") + f"f{precision.bits}"

    def vector(self, of: str) -> str:
        """The type of `width` elements."""
        return of if self.width == 1 else f"<{self.width} x {of}>"

    def splat(self, of: str, text: str) -> str:
        """A constant in all lanes."""
        return text if self.width == 1 else f"splat ({of} {text})"

    def number(self, value: float) -> str:
        """A float constant, rounded to the precision."""
        if self.precision is F32:
            with np.errstate(over="ignore"):
                value = float(np.float32(value))
        return self.splat(self.precision.float, f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}")

    def integer(self, value: int) -> str:
        """A constant of the width of floats; bit patterns beyond the signed range are taken as such."""
        return self.splat(self.precision.integer, str(value))

    def position(self, value: int) -> str:
        """An integer constant of graphs."""
        return self.splat("i64", str(value))

    def truth(self, value: bool) -> str:
        """A boolean constant."""
        return self.splat("i1", "true" if value else "false")

    def _float(self, op: str, a: str, b: str) -> str:
        return self.function.emit(f"{op} {self.float} {a}, {b}")

    def _intrinsic(self, name: str, *operands: str) -> str:
        return self._external(f"llvm.{name}.{self._suffix}", *operands)

    def _external(self, symbol: str, *operands: str) -> str:
        types = ", ".join([self.float] * len(operands))
        self.function.module.declarations[symbol] = f"declare {self.float} @{symbol}({types})"
        arguments = ", ".join(f"{self.float} {x}" for x in operands)
        return self.function.emit(f"call {self.float} @{symbol}({arguments})")

    def add(self, a: str, b: str) -> str:
        """a + b"""
        return self._float("fadd", a, b)

    def sub(self, a: str, b: str) -> str:
        """a - b"""
        return self._float("fsub", a, b)

    def mul(self, a: str, b: str) -> str:
        """a * b"""
        return self._float("fmul", a, b)

    def div(self, a: str, b: str) -> str:
        """a / b"""
        return self._float("fdiv", a, b)

    def neg(self, a: str) -> str:
        """-a"""
        return self.function.emit(f"fneg {self.float} {a}")

    def fma(self, a: str, b: str, c: str) -> str:
        """a * b + c, rounded once."""
        return self._intrinsic("fma", a, b, c)

    def abs(self, a: str) -> str:
        """|a|"""
        return self._intrinsic("fabs", a)

    def sqrt(self, a: str) -> str:
        """The square root, correctly rounded."""
        return self._intrinsic("sqrt", a)

    def rint(self, a: str) -> str:
        """The nearest integer, the even one at a tie."""
        return self._intrinsic("rint", a)

    def floor(self, a: str) -> str:
        """The largest integer not above a."""
        return self._intrinsic("floor", a)

    def copysign(self, a: str, b: str) -> str:
        """|a| with the sign of b."""
        return self._intrinsic("copysign", a, b)

    def compare(self, predicate: str, a: str, b: str) -> str:
        """LLVM's ordered (olt, ole, oeq, one, ord) and unordered (une, uno, ult) comparisons."""
        return self.function.emit(f"fcmp {predicate} {self.float} {a}, {b}")

    def lt(self, a: str, b: str) -> str:
        """a < b"""
        return self.compare("olt", a, b)

    def le(self, a: str, b: str) -> str:
        """a <= b"""
        return self.compare("ole", a, b)

    def eq(self, a: str, b: str) -> str:
        """a == b"""
        return self.compare("oeq", a, b)

    def ne(self, a: str, b: str) -> str:
        """a != b, also where one is NaN."""
        return self.compare("une", a, b)

    def isnan(self, a: str) -> str:
        """Whether a is NaN."""
        return self.compare("uno", a, a)

    def select(self, condition: str, a: str, b: str) -> str:
        """a where the boolean holds, b elsewhere: floats."""
        return self._select(self.float, condition, a, b)

    def select_bits(self, condition: str, a: str, b: str) -> str:
        """The same for integers of the width of floats."""
        return self._select(self.bits, condition, a, b)

    def _select(self, of: str, condition: str, a: str, b: str) -> str:
        return self.function.emit(f"select {self.bool} {condition}, {of} {a}, {of} {b}")

    def logical_and(self, a: str, b: str) -> str:
        """Both booleans."""
        return self.function.emit(f"and {self.bool} {a}, {b}")

    def logical_or(self, a: str, b: str) -> str:
        """Either boolean."""
        return self.function.emit(f"or {self.bool} {a}, {b}")

    def logical_not(self, a: str) -> str:
        """The other boolean."""
        return self.function.emit(f"xor {self.bool} {a}, {self.truth(True)}")

    def integral(self, op: str, a: str, b: str) -> str:
        """LLVM's integer operation (add, sub, and, or, xor, shl, lshr, ashr, mul) on integers of the width of floats."""
        return self.function.emit(f"{op} {self.bits} {a}, {b}")

    def compare_bits(self, predicate: str, a: str, b: str) -> str:
        """LLVM's integer comparison (eq, ne, slt, sle, ult, ...) of integers of the width of floats."""
        return self.function.emit(f"icmp {predicate} {self.bits} {a}, {b}")

    def to_bits(self, a: str) -> str:
        """The bits of a float."""
        return self.function.emit(f"bitcast {self.float} {a} to {self.bits}")

    def from_bits(self, a: str) -> str:
        """The float of these bits."""
        return self.function.emit(f"bitcast {self.bits} {a} to {self.float}")

    def to_integer(self, a: str) -> str:
        """An integral float as an integer of its width; it must fit."""
        return self.function.emit(f"fptosi {self.float} {a} to {self.bits}")

    def to_float(self, a: str) -> str:
        """An integer of the width of floats as a float."""
        return self.function.emit(f"sitofp {self.bits} {a} to {self.float}")

    def from_index(self, a: str) -> str:
        """An integer of a graph as a float."""
        return self.function.emit(f"sitofp {self.index} {a} to {self.float}")

    def from_bool(self, a: str) -> str:
        """1.0 where the boolean holds, 0.0 elsewhere."""
        return self.select(a, self.number(1.0), self.number(0.0))

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """c0 + c1 x + c2 x² + ... by Horner's scheme with fused multiply-add."""
        result = self.number(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            result = self.fma(result, x, self.number(coefficient))
        return result

    def two_chains(self, x: str, coefficients: Sequence[float]) -> str:
        """The same by its even and odd powers: half as long a chain of operations that wait for each other, for one operation more."""
        square = self.mul(x, x)
        return self.fma(x, self.polynomial(square, coefficients[1::2]), self.polynomial(square, coefficients[0::2]))

    def any(self, condition: str) -> str:
        """One i1: whether a boolean holds in any lane."""
        if self.width == 1:
            return condition
        mask = self.function.emit(f"bitcast {self.bool} {condition} to i{self.width}")
        return self.function.emit(f"icmp ne i{self.width} {mask}, 0")

    def rarely(self, condition: str, usual: str, unusual: Callable[[], str]) -> str:
        """`usual`, and where the boolean holds `unusual()`, whose code runs only if it holds in any lane."""
        function, before = self.function, self.function.block
        inside, after = function.label(), function.label()
        function.do(f"br i1 {self.any(condition)}, label %{inside}, label %{after}, !prof !0")
        function.module.declarations["!0"] = '!0 = !{!"branch_weights", i32 1, i32 10000}'
        function.start(inside)
        found = self.select(condition, unusual(), usual)
        end = function.block
        function.do(f"br label %{after}")
        function.start(after)
        return function.emit(f"phi {self.float} [ {usual}, %{before} ], [ {found}, %{end} ]")

    def lane_by_lane(self, one: Callable[[Lanes, str], str], a: str) -> str:
        """A function of one sample applied to each lane: for what is rare or has no vector form."""
        if self.width == 1:
            return one(self, a)
        scalar = Lanes(self.function, self.precision, 1)
        result = "poison"
        for lane in range(self.width):
            x = self.function.emit(f"extractelement {self.float} {a}, i64 {lane}")
            y = one(scalar, x)
            result = self.function.emit(f"insertelement {self.float} {result}, {scalar.float} {y}, i64 {lane}")
        return result

    def call(self, name: str, *operands: str) -> str:
        """A vector function of the library; defined in the module at its first call."""
        symbol = f"{name}.{self._suffix}"
        module = self.function.module
        if symbol not in module.functions:
            self._define(symbol, module.library[name], len(operands))
        arguments = ", ".join(f"{self.float} {x}" for x in operands)
        return self.function.emit(f"call {self.float} @{symbol}({arguments})")

    def _define(self, symbol: str, body: Body, arity: int) -> None:
        module = self.function.module
        module.functions[symbol] = ""  # its place: a function that calls itself would be a mistake
        function = Function(module)
        parameters = [f"%x{k}" for k in range(arity)]
        function.do(f"ret {self.float} {body(Lanes(function, self.precision, self.width), *parameters)}")
        attributes = "nounwind alwaysinline" if module.inline else "nounwind noinline"
        module.define(symbol, f"internal {self.float}", [(self.float, x) for x in parameters], function.lines, attributes)
