"""The errors of the engine.

SumgradError
├── GraphError (ValueError)           a malformed graph or expression; knows the node, the op and the user's source line
│   ├── ShapeError                    operands whose shapes or kinds do not fit the op
│   └── DifferentiationError          no derivative where one was asked for
├── InputError (ValueError)           an array that is missing, unexpected, or of the wrong shape or type; knows the field
├── NumericalError (ArithmeticError)  the first NaN or infinity, in debug mode; knows node, op, source line and sample
├── LimitError                        something larger than allowed; knows the limit's name
├── MissingDependencyError (ImportError)  an optional package is needed; the message says how to install it
└── Cancelled                         an evaluation was asked to stop

All of them pickle, and `context` gives what is known as strings.
"""

from __future__ import annotations

from typing import Any, Self


class SumgradError(Exception):
    """Base of all errors of sumgrad."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = {name: value for name, value in details.items() if value is not None}

    @property
    def context(self) -> dict[str, str]:
        """What is known of the error, by name, each cut to a bounded length."""
        return {name: str(value)[:500] for name, value in self.details.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.details)


def _rebuild(kind: type[SumgradError], message: str, details: dict[str, Any]) -> SumgradError:
    return kind(message, **details)


class GraphError(SumgradError, ValueError):
    """A malformed graph or expression. `node`, `op` and `source` ("train.py:12") are None where unknown."""

    def __init__(self, message: str, *, node: int | None = None, op: str | None = None, source: str | None = None) -> None:
        super().__init__(message, node=node, op=op, source=source)
        self.node, self.op, self.source = node, op, source

    def located(self, *, node: int | None = None, op: str | None = None, source: str | None = None) -> Self:
        """The same error with what is known of its place filled in."""
        return type(self)(
            self.message,
            node=self.node if self.node is not None else node,
            op=self.op or op,
            source=self.source or source,
        )

    def __str__(self) -> str:
        return self.message + _place(self.node, self.op, self.source)


class ShapeError(GraphError):
    """Operands whose shapes or kinds do not fit the op."""


class DifferentiationError(GraphError):
    """A derivative was asked for where there is none."""


class InputError(SumgradError, ValueError):
    """An array that is missing, unexpected, or of the wrong shape or type. `field` is like "inputs.x"; `sample` is known for bad indices."""

    def __init__(self, message: str, *, field: str, sample: int | None = None) -> None:
        super().__init__(message, field=field, sample=sample)
        self.field, self.sample = field, sample


class NumericalError(SumgradError, ArithmeticError):
    """The first NaN or infinity, found in debug mode. `sample` is None where the node is the same for all samples."""

    def __init__(
        self, message: str, *, node: int | None = None, op: str | None = None, source: str | None = None, sample: int | None = None
    ) -> None:
        super().__init__(message, node=node, op=op, source=source, sample=sample)
        self.node, self.op, self.source, self.sample = node, op, source, sample


class LimitError(SumgradError):
    """Something larger than allowed. `limit` is the name of the limit, as in the settings."""

    def __init__(self, message: str, *, limit: str, value: int | None = None, allowed: int | None = None, node: int | None = None) -> None:
        super().__init__(message, limit=limit, value=value, allowed=allowed, node=node)
        self.limit, self.value, self.allowed, self.node = limit, value, allowed, node


class MissingDependencyError(SumgradError, ImportError):
    """An optional package is needed; the message says how to install it."""


class Cancelled(SumgradError):  # noqa: N818 - the field's word, as in asyncio.CancelledError
    """An evaluation was asked to stop."""


def _place(node: int | None, op: str | None, source: str | None) -> str:
    known = [f"node {node}" if node is not None else "", f"op {op}" if op else "", f"made at {source}" if source else ""]
    said = ", ".join(part for part in known if part)
    return f" ({said})" if said else ""
