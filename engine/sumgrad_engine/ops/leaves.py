"""Leaves: what a graph starts from. They compute nothing; their values are given."""

from __future__ import annotations

from ..types import Array, Attributes, Type
from .movement import Types
from .record import Op


def _given(types: Types, attributes: Attributes) -> Type:
    raise TypeError("the type of a leaf is given, not inferred")


def _no_value(*arrays: Array) -> Array:
    raise TypeError("the value of a leaf is given, not computed")


def _leaf(number: int, name: str, doc: str) -> Op:
    return Op(name=name, number=number, doc=doc, kinds="", infer=_given, forward=_no_value, derivatives=(), accuracy="exact")


input_: Op = _leaf(1, "input", "per-sample data")
parameter: Op = _leaf(2, "parameter", "a value that all samples share")
scalar: Op = _leaf(3, "scalar", "a float64 constant of shape ()")
constant: Op = _leaf(4, "constant", "an array constant")

OPS = (input_, parameter, scalar, constant)
