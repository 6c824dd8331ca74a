"""Optimisers on dictionaries of arrays: `params = optimizer.step(params, grads)`.

They are functional in the parameters (nothing is changed in place, a new dictionary comes back) and keep their own state, by
parameter name, between steps. A learning rate is a number or a schedule: a function of the step number, which counts from 0. `step_vector` does the
same, to the bit, with all parameters one after the other in one flat vector.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .schedules import CosineDecay, ExponentialDecay, LinearDecay, Schedule, StepDecay

__all__ = ["SGD", "Adam", "AdamW", "CosineDecay", "ExponentialDecay", "LinearDecay", "Optimizer", "Schedule", "StepDecay"]

FloatArray: TypeAlias = NDArray[np.float64]
LearningRate: TypeAlias = float | Callable[[int], float]
MANY = 64
"""So many scalars are updated as one array."""
TOGETHER = "scalars"
"""Under this name their state is kept."""
VECTOR = "vector"
"""Under this name `step_vector` keeps its state."""


def _require(name: str, value: float) -> None:
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, not {value}")


class Optimizer(ABC):
    """What all optimisers share: the step count, the learning rate, clipping, and the walk over the parameters.

    With `clip_norm`, a gradient g whose Euclidean norm |g| over all parameters is more than that is scaled to g clip_norm / |g| (Pascanu, Mikolov and
    Bengio, "On the difficulty of training recurrent neural networks", 2013); with `clip_value`, each of its elements is then clipped to
    [-clip_value, clip_value].
    """

    elementwise: ClassVar[bool] = False
    """Whether `update` treats every element alike, whatever its name: then many scalars may be updated as one array, and so may all parameters."""

    def __init__(self, learning_rate: LearningRate, *, clip_norm: float | None = None, clip_value: float | None = None) -> None:
        for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if limit is not None and not limit > 0.0:
                raise ValueError(f"{name} must be above 0, or None, not {limit}")
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.steps = 0
        self._together: tuple[str, ...] = ()
        self._memory: dict[str, dict[str, FloatArray]] = {}

    def step(self, params: Mapping[str, ArrayLike], grads: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
        """New parameters, one step down the gradient.

        Each gradient has the shape of its parameter, or a ValueError names the parameter. A parameter without a gradient is passed
        on as it is; a gradient without a parameter is a KeyError.
        """
        unknown = sorted(set(grads) - set(params))
        if unknown:
            raise KeyError(f"gradients of parameters that were not given: {', '.join(unknown)}")
        if self.clip_norm is not None or self.clip_value is not None:
            grads = self._all_clipped([name for name in params if name in grads], grads)
        with self._whole():
            rate = self._next_rate()
            found = self._stepped_together(params, grads, rate)
            for name, value in params.items():
                if name not in found:
                    found[name] = self._stepped(name, value, grads.get(name), rate)
        return found if len(self._together) in (0, len(params)) else {name: found[name] for name in params}

    def step_vector(self, vector: FloatArray, gradient: FloatArray) -> FloatArray:
        """New parameters of shape (n,), one step down a gradient of shape (n,): of all parameters, one after the other.

        The bits are those of `step` on its parts. An optimiser takes steps of one kind only. TypeError if it is not elementwise.
        """
        if not self.elementwise:
            raise TypeError(f"{type(self).__name__} updates parameters by their names: use step")
        gradient = self._clipped(np.asarray(gradient, dtype=np.float64))
        with self._whole():
            return np.asarray(self.update(VECTOR, np.asarray(vector, dtype=np.float64), gradient, self._next_rate()))

    @property
    def kept(self) -> int:
        """How many numbers it keeps for each parameter, once it has taken a step."""
        return 0

    def state(self) -> dict[str, NDArray[np.generic]]:
        """All that the next step depends on beside parameters and settings, as arrays by name: for `restore`."""
        kept = {f"{kind}/{name}": np.asarray(array) for kind, arrays in self._memory.items() for name, array in arrays.items()}
        return {"steps": np.array(self.steps, np.int64), **kept}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Goes on where another optimiser of the same settings was when it gave its `state`. KeyError if it is none."""
        self.steps = int(state["steps"])
        self._memory = {}
        for place, array in state.items():
            kind, slash, name = place.partition("/")
            if slash:
                self._memory.setdefault(kind, {})[name] = np.array(array, dtype=np.float64)
        if any(TOGETHER in arrays for arrays in self._memory.values()):
            raise KeyError("the state is of many scalars kept together, whose names it does not hold: use step_vector")

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """A step that comes to an error has not been taken: not even in part."""
        steps, together, memory = self.steps, self._together, {kind: dict(arrays) for kind, arrays in self._memory.items()}
        try:
            yield
        except BaseException:
            self.steps, self._together, self._memory = steps, together, memory
            raise

    def _next_rate(self) -> float:
        rate = self.learning_rate(self.steps) if callable(self.learning_rate) else self.learning_rate
        self.steps += 1
        return rate

    def _all_clipped(self, names: Iterable[str], grads: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
        arrays = {name: np.asarray(grads[name], dtype=np.float64) for name in names}
        vector = self._clipped(np.concatenate([array.ravel() for array in arrays.values()] or [np.empty(0)]))
        found, start = {}, 0
        for name, array in arrays.items():
            found[name] = vector[start : start + array.size].reshape(array.shape)
            start += array.size
        return found

    def _clipped(self, gradient: FloatArray) -> FloatArray:
        if self.clip_norm is not None:
            gradient = shortened(gradient, self.clip_norm)
        if self.clip_value is not None:
            gradient = np.clip(gradient, -self.clip_value, self.clip_value)
        return gradient

    def _remembered(self, kind: str, name: str) -> FloatArray | None:
        return self._memory.get(kind, {}).get(name)

    def _remember(self, kind: str, name: str, array: FloatArray) -> None:
        self._memory.setdefault(kind, {})[name] = array

    def _stepped_together(self, params: Mapping[str, ArrayLike], grads: Mapping[str, ArrayLike], rate: float) -> dict[str, FloatArray]:
        """Scalars, if there are many, as one array: a network may be written in a hundred thousand of them."""
        if self.steps == 1 and self.elementwise:
            scalars = tuple(name for name, value in params.items() if name in grads and np.shape(value) == ())
            self._together = scalars if len(scalars) >= MANY else ()
        names = self._together
        if not names:
            return {}
        try:
            values, slopes = (np.fromiter(map(float, [of[name] for name in names]), np.float64, len(names)) for of in (params, grads))  # type: ignore[arg-type]
        except KeyError as error:
            raise ValueError(
                f"this optimiser keeps the state of {len(names)} scalars together: each step needs the gradients that the first one had, and {error} is missing"
            ) from None
        stepped = np.asarray(self.update(TOGETHER, values, slopes, rate))
        return {name: stepped[k, ...] for k, name in enumerate(names)}

    def _stepped(self, name: str, value: ArrayLike, grad: ArrayLike | None, rate: float) -> FloatArray:
        param = np.array(value, dtype=np.float64)
        if grad is None:
            return param
        gradient = np.asarray(grad, dtype=np.float64)
        if gradient.shape != param.shape:
            raise ValueError(f"the gradient of {name!r} has shape {gradient.shape}, the parameter {param.shape}")
        return np.asarray(self.update(name, param, gradient, rate))

    @abstractmethod
    def update(self, name: str, param: FloatArray, grad: FloatArray, rate: float) -> FloatArray:
        """The new value of one parameter. `self.steps` is the number of this step, counted from 1."""


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for.

    With gradient g (plus weight_decay * p), momentum m and rate r, the velocity is v = m v + g, begun at v = g, and
    p = p - r v, or with Nesterov's form p = p - r (g + m v): Sutskever et al., "On the importance of initialization and momentum in
    deep learning" (2013), in the arrangement that PyTorch's SGD uses.
    """

    elementwise = True

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm=clip_norm, clip_value=clip_value)
        if nesterov and momentum <= 0.0:
            raise ValueError("nesterov needs a momentum above 0")
        _require("momentum", momentum)
        _require("weight_decay", weight_decay)
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay

    @property
    def kept(self) -> int:
        """The velocity, if there is momentum."""
        return int(self.momentum > 0.0)

    def update(self, name: str, param: FloatArray, grad: FloatArray, rate: float) -> FloatArray:
        """The parameter less r v, as the class describes."""
        if self.weight_decay:
            grad = grad + self.weight_decay * param
        if not self.momentum:
            return param - rate * grad
        last = self._remembered("velocity", name)
        velocity = grad if last is None else self.momentum * last + grad
        self._remember("velocity", name, velocity)
        return param - rate * (grad + self.momentum * velocity if self.nesterov else velocity)


class Adam(Optimizer):
    """Adam: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), algorithm 1.

    With gradient g (plus weight_decay * p) at step t: m = b1 m + (1 - b1) g and s = b2 s + (1 - b2) g^2, both begun at 0, and
    p = p - r (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + epsilon).
    """

    elementwise = True

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm=clip_norm, clip_value=clip_value)
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1), not {betas}")
        _require("epsilon", epsilon)
        _require("weight_decay", weight_decay)
        self.betas = betas
        self.epsilon = epsilon
        self.weight_decay = weight_decay

    @property
    def kept(self) -> int:
        """Both moments."""
        return 2

    def update(self, name: str, param: FloatArray, grad: FloatArray, rate: float) -> FloatArray:
        """One step of algorithm 1, with L2 decay in the gradient."""
        return param - rate * self._direction(name, grad + self.weight_decay * param if self.weight_decay else grad)

    def _direction(self, name: str, grad: FloatArray) -> FloatArray:
        first_beta, second_beta = self.betas
        first, second = self._remembered("first", name), self._remembered("second", name)
        if first is None or second is None:
            first = second = np.zeros_like(grad)
        first = first_beta * first + (1.0 - first_beta) * grad
        second = second_beta * second + (1.0 - second_beta) * grad * grad
        self._remember("first", name, first)
        self._remember("second", name, second)
        mean = first / (1.0 - first_beta**self.steps)
        spread = np.sqrt(second / (1.0 - second_beta**self.steps))
        return np.asarray(mean / (spread + self.epsilon))


class AdamW(Adam):
    """Adam with decoupled weight decay: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2.

    The decay p = p - r weight_decay p stands beside Adam's step and does not enter its moments (PyTorch's scaling: r is the rate).
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 1e-2,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, betas=betas, epsilon=epsilon, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value)

    def update(self, name: str, param: FloatArray, grad: FloatArray, rate: float) -> FloatArray:
        """Decay, then Adam's step of the bare gradient."""
        return param - rate * self.weight_decay * param - rate * self._direction(name, grad)


def shortened(vector: FloatArray, longest: float) -> FloatArray:
    """The vector, scaled to this Euclidean norm if it is longer. One that is not finite comes to something that is not either."""
    with np.errstate(over="ignore", invalid="ignore"):
        norm = math.sqrt(sum_of_squares(vector))
        if math.isinf(norm):  # the squares are too large for floats
            vector = vector / np.abs(vector).max()
            return vector * (longest / math.sqrt(sum_of_squares(vector)))
        return vector * (longest / norm) if norm > longest else vector


def sum_of_squares(vector: FloatArray) -> float:
    """The sum of the squares of a vector's elements, halves added to halves: an order that does not depend on the machine."""
    length = 1 << max(0, len(vector) - 1).bit_length()
    squares = np.zeros(length)
    np.square(vector, out=squares[: len(vector)])
    while length > 1:
        length //= 2
        squares = squares[:length] + squares[length : 2 * length]
    return float(squares[0])
