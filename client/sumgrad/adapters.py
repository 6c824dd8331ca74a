"""Bridges to optimisers that know vectors only: SciPy's `minimize`, `least_squares` and their like.

    fun, x0, unflatten = sg.adapters.scipy_objective(service, objective, data)
    found = scipy.optimize.minimize(fun, x0, jac=True)
    params = unflatten(found.x)

    problem = sg.adapters.least_squares(service, residual, data)
    found = scipy.optimize.least_squares(problem.fun, problem.x0, jac=problem.jac)

SciPy itself is not needed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sumgrad_engine.derivatives import grad
from sumgrad_engine.errors import InputError, ShapeError
from sumgrad_engine.objective import Objective
from sumgrad_engine.ops.leaves import parameter
from sumgrad_engine.program import Result
from sumgrad_engine.value import Value

from .inprocess import here

__all__ = ["Layout", "LeastSquares", "ScipyObjective", "least_squares", "scipy_objective"]

Vector: TypeAlias = NDArray[np.float64]
Arrays: TypeAlias = Mapping[str, ArrayLike]


class Evaluator(Protocol):
    """What the adapters call: a service, or `sg.here`."""

    def value_and_grad(self, objective: Objective, params: Arrays, data: Arrays) -> Result:
        """Value and gradient of the objective over the data."""
        ...

    def evaluate(self, outputs: Mapping[str, Value], params: Arrays, data: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs for each sample."""
        ...


class Layout:
    """Where each parameter lies in one flat vector: in the order of the names given, each in row-major order."""

    def __init__(self, params: Arrays) -> None:
        self.shapes = {name: np.shape(value) for name, value in params.items()}
        self.size = sum(math.prod(shape) for shape in self.shapes.values())

    def flatten(self, params: Arrays) -> Vector:
        """The parameters as one vector of float64. ValueError if one has another shape than the layout says."""
        pieces = [np.asarray(params[name], dtype=np.float64) for name in self.shapes]
        for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True):
            if piece.shape != shape:
                raise ValueError(f"{name!r} has shape {piece.shape}, the layout {shape}")
        return np.concatenate([piece.ravel() for piece in pieces]) if pieces else np.zeros(0)

    def unflatten(self, vector: ArrayLike) -> dict[str, Vector]:
        """The parameters of a vector of `size` elements."""
        flat = np.asarray(vector, dtype=np.float64)
        if flat.shape != (self.size,):
            raise ValueError(f"the vector has shape {flat.shape}, the layout needs ({self.size},)")
        ends = np.cumsum([math.prod(shape) for shape in self.shapes.values()])[:-1]
        pieces = np.split(flat, ends)
        return {name: piece.reshape(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}


class ScipyObjective(NamedTuple):
    """An objective for `scipy.optimize.minimize(fun, x0, jac=True)`."""

    fun: Callable[[ArrayLike], tuple[float, Vector]]
    """x -> (value, gradient)."""
    x0: Vector
    """The starting values as a vector."""
    unflatten: Callable[[ArrayLike], dict[str, Vector]]
    """A vector as parameters by name."""


def scipy_objective(service: Evaluator | None, objective: Objective, data: Arrays, params: Arrays | None = None) -> ScipyObjective:
    """An objective over data as a function of one vector.

    `service` computes; None does it in this process. `params` are the starting values (None: the objective's own).
    """
    start = params if params is not None else objective.params
    layout = Layout(start)

    def fun(x: ArrayLike) -> tuple[float, Vector]:
        result = (service or here).value_and_grad(objective, layout.unflatten(x), data)
        return result.value, layout.flatten(result.grads)

    return ScipyObjective(fun, layout.flatten(start), layout.unflatten)


class LeastSquares:
    """Residuals and their Jacobian as functions of one vector, for `scipy.optimize.least_squares(p.fun, p.x0, jac=p.jac)`.

    SciPy asks for both at the same point, one after the other: they are computed together and the last point is kept.
    """

    def __init__(self, service: Evaluator | None, residual: Value, data: Arrays, params: Arrays) -> None:
        if residual.shape != ():
            raise ShapeError(f"the residual must be a scalar for each sample, not of shape {residual.shape}")
        self._service = service or here
        self._data = data
        self._layout = Layout(params)
        self._outputs = {"residual": residual, **_derivatives(residual, list(params))}
        self._last: tuple[bytes, Vector, NDArray[np.float64]] | None = None
        self.x0 = self._layout.flatten(params)

    def fun(self, x: ArrayLike) -> Vector:
        """The residual of each sample: shape (n,)."""
        return self._at(x)[0]

    def jac(self, x: ArrayLike) -> NDArray[np.float64]:
        """The derivative of each residual with respect to each element of x: shape (n, x.size)."""
        return self._at(x)[1]

    def unflatten(self, x: ArrayLike) -> dict[str, Vector]:
        """A vector as parameters by name."""
        return self._layout.unflatten(x)

    def _at(self, x: ArrayLike) -> tuple[Vector, NDArray[np.float64]]:
        vector = np.asarray(x, dtype=np.float64)
        key = vector.tobytes()
        if self._last is None or self._last[0] != key:
            answer = self._service.evaluate(self._outputs, self._layout.unflatten(vector), self._data)
            residuals = answer.pop("residual")
            columns = [answer[_derivative_name(name)].reshape(len(residuals), -1) for name in self._layout.shapes]
            self._last = key, residuals, np.concatenate(columns, axis=1)
        return self._last[1], self._last[2]


def least_squares(service: Evaluator | None, residual: Value, data: Arrays, params: Arrays | None = None) -> LeastSquares:
    """A scalar residual expression as a least-squares problem over data.

    `service` computes; None does it in this process. `params` are the starting values (None: those that the parameters were made with).
    """
    start = params if params is not None else {name: leaf.data for name, leaf in _parameters(residual).items()}
    return LeastSquares(service, residual, data, start)


def _parameters(expression: Value) -> dict[str, Value]:
    return {node.name: node for node in expression.nodes() if node.op is parameter}


def _derivatives(residual: Value, names: list[str]) -> dict[str, Value]:
    leaves = _parameters(residual)
    for name in names:
        if name not in leaves:
            raise InputError(f"the residual has no parameter {name!r}; it has {sorted(leaves)}", field=f"parameters.{name}")
    derivatives = grad(residual, [leaves[name] for name in names])
    return {_derivative_name(name): derivative for name, derivative in zip(names, derivatives, strict=True)}


def _derivative_name(parameter: str) -> str:
    return f"d residual/d {parameter}"
