"""Schedules against their formulae in many digits; steps of flat vectors, clipping, and state that is taken elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sumgrad.optim import SGD, Adam, AdamW, CosineDecay, ExponentialDecay, LinearDecay, Optimizer, Schedule, StepDecay
from sumgrad_engine.optim import sum_of_squares

RATE = 0.3
DECAYS: dict[str, tuple[Any, Callable[[Any, int], Any]]] = {
    "none": (None, lambda rate, t: rate),
    "step": (StepDecay(0.7, 4), lambda rate, t: rate * mpmath.mpf(0.7) ** (t // 4)),
    "exponential": (ExponentialDecay(0.95), lambda rate, t: rate * mpmath.mpf(0.95) ** t),
    "cosine": (CosineDecay(0.01, 20), lambda rate, t: 0.01 + (rate - 0.01) * (1 + mpmath.cos(mpmath.pi * min(t, 20) / 20)) / 2),
    "linear": (LinearDecay(0.01, 20), lambda rate, t: rate + (0.01 - rate) * mpmath.mpf(min(t, 20)) / 20),
}
MAKERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda **options: SGD(Schedule(0.1, 2, ExponentialDecay(0.9)), weight_decay=0.01, **options),
    "momentum": lambda **options: SGD(0.1, momentum=0.9, **options),
    "nesterov": lambda **options: SGD(0.1, momentum=0.9, nesterov=True, **options),
    "adam": lambda **options: Adam(Schedule(0.1, 1), weight_decay=0.01, **options),
    "adamw": lambda **options: AdamW(0.1, **options),
}
SHAPES: dict[str, tuple[int, ...]] = {"a": (3, 5), "b": (), "c": (0, 2), "d": (17,)}
LENGTH = 33


@pytest.mark.parametrize("name", DECAYS)
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_schedules_follow_their_formulae(name: str, warmup: int) -> None:
    """Each step's rate is within a few ulp of its formula in fifty digits: first the warm-up, then the decay from its beginning."""
    decay, formula = DECAYS[name]
    schedule = Schedule(RATE, warmup, decay)
    with mpmath.workdps(50):
        for step in range(60):
            exact = mpmath.mpf(RATE) * (step + 1) / (warmup + 1) if step < warmup else formula(mpmath.mpf(RATE), step - warmup)
            assert abs(schedule(step) - exact) <= 4 * math.ulp(RATE), step
    assert schedule(warmup) == RATE


def test_decays_end_where_they_say() -> None:
    """After their steps, cosine and linear decays stay at their final rate."""
    for decay in (CosineDecay(0.0125, 3), LinearDecay(0.0125, 3)):
        assert [Schedule(0.1, 1, decay)(step) for step in (4, 5, 10**12)] == pytest.approx([0.0125] * 3, rel=1e-14)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Schedule(-0.1), "rate"),
        (lambda: Schedule(math.nan), "rate"),
        (lambda: Schedule(math.inf), "rate"),
        (lambda: Schedule(0.1, -1), "warmup_steps"),
        (lambda: StepDecay(-0.5, 2), "factor"),
        (lambda: StepDecay(0.5, 0), "every"),
        (lambda: ExponentialDecay(-1.0), "factor"),
        (lambda: CosineDecay(-0.1, 5), "final"),
        (lambda: LinearDecay(0.1, 0), "steps"),
        (lambda: SGD(0.1, clip_norm=0.0), "clip_norm"),
        (lambda: Adam(clip_value=-1.0), "clip_value"),
    ],
)
def test_impossible_settings_are_errors(make: Callable[[], object], name: str) -> None:
    """Settings that mean nothing are refused by name."""
    with pytest.raises(ValueError, match=name):
        make()


def split(vector: Any) -> dict[str, Any]:
    """The parameters in a flat vector."""
    found, start = {}, 0
    for name, shape in SHAPES.items():
        stop = start + math.prod(shape)
        found[name] = vector[start:stop].reshape(shape)
        start = stop
    return found


@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 2.0}, {"clip_value": 0.5}, {"clip_norm": 3.0, "clip_value": 0.25}], ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_steps_of_vectors_are_steps_of_parts(name: str, clipping: dict[str, float]) -> None:
    """One flat vector goes where its parts go by themselves, to the bit, step after step; what it was given is not changed."""
    dice = np.random.default_rng(4)
    flat, apart = MAKERS[name](**clipping), MAKERS[name](**clipping)
    vector = dice.normal(size=LENGTH)
    params = split(vector.copy())
    for _ in range(5):
        gradient = dice.normal(size=LENGTH)
        kept = vector.copy(), gradient.copy()
        stepped = flat.step_vector(vector, gradient)
        assert np.array_equal(vector, kept[0])
        assert np.array_equal(gradient, kept[1])
        vector, params = stepped, dict(apart.step(params, split(gradient)))
        assert {key: array.tobytes() for key, array in split(vector).items()} == {key: array.tobytes() for key, array in params.items()}
        assert {key: array.shape for key, array in params.items()} == SHAPES


@pytest.mark.parametrize("name", MAKERS)
def test_state_is_taken_elsewhere(name: str) -> None:
    """An optimiser that is given another one's state goes on as that would have, whatever the steps were made of; states are copies."""
    dice = np.random.default_rng(5)
    gradients = dice.normal(size=(6, LENGTH))

    def vectors(optimizer: Optimizer, vector: Any, part: Any) -> Any:
        for gradient in part:
            vector = optimizer.step_vector(vector, gradient)
        return vector

    def parts(optimizer: Optimizer, vector: Any, part: Any) -> Any:
        params: Any = split(vector)
        for gradient in part:
            params = optimizer.step(params, split(gradient))
        return np.concatenate([array.ravel() for array in params.values()])

    for steps in (vectors, parts):
        whole, first, second = (MAKERS[name](clip_norm=4.0) for _ in range(3))
        begin = np.ones(LENGTH)
        middle = steps(first, begin, gradients[:3])
        state = {key: array.copy() for key, array in first.state().items()}
        second.restore(state)
        for array in state.values():
            array[...] = 7
        assert second.steps == 3
        assert steps(second, middle, gradients[3:]).tobytes() == steps(whole, begin, gradients).tobytes()


def test_state_of_nobody() -> None:
    """A state without a step count, and one of many scalars without their names, are errors; steps of names alone have no vector."""
    with pytest.raises(KeyError, match="steps"):
        SGD(0.1).restore({})
    many = Adam(0.1)
    many.step({f"p{k}": 1.0 for k in range(100)}, {f"p{k}": 1.0 for k in range(100)})
    with pytest.raises(KeyError, match="step_vector"):
        Adam(0.1).restore(many.state())

    class Named(SGD):
        """A rule that looks at names."""

        elementwise = False

    with pytest.raises(TypeError, match="Named"):
        Named(0.1).step_vector(np.ones(2), np.ones(2))


@given(st.lists(st.floats(-1e3, 1e3), max_size=70))
def test_sums_of_squares(values: list[float]) -> None:
    """Halves are added to halves: the bits are those of the same sum in plain floats, close to the exact one."""
    squares = [value * value for value in values]
    squares += [0.0] * ((1 << max(0, len(values) - 1).bit_length()) - len(values))
    while len(squares) > 1:
        half = len(squares) // 2
        squares = [a + b for a, b in zip(squares[:half], squares[half:], strict=True)]
    found = sum_of_squares(np.array(values))
    assert found == squares[0]
    assert found == pytest.approx(float(sum(Fraction(value) ** 2 for value in values)), rel=1e-14, abs=1e-300)


def test_clipping_by_norm_is_of_all_parameters_together() -> None:
    """A gradient (3, 4) in two parameters has norm 5: clipped to 2.5 it is (1.5, 2); one that is shorter stays."""
    params, grads = {"a": np.array([3.0]), "b": 4.0, "still": 1.0}, {"a": np.array([3.0]), "b": 4.0}
    found = SGD(1.0, clip_norm=2.5).step(params, grads)
    assert {name: float(np.squeeze(value)) for name, value in found.items()} == {"a": 1.5, "b": 2.0, "still": 1.0}
    assert SGD(1.0, clip_norm=5.0).step(params, grads)["b"] == 0.0
    assert SGD(1.0, clip_norm=5.0, clip_value=0.25).step(params, grads)["b"] == 3.75


def test_clipping_by_value_comes_after_the_norm() -> None:
    """The gradient (30, 40) is first scaled to (3, 4), then its elements are clipped to 3.5."""
    assert SGD(1.0, clip_norm=5.0, clip_value=3.5).step_vector(np.zeros(2), np.array([30.0, 40.0])).tolist() == [-3.0, -3.5]


def test_gradients_that_cannot_be_clipped() -> None:
    """Infinities and NaN are not hidden by clipping the norm: the parameters show them."""
    for bad in (math.inf, math.nan):
        assert not np.isfinite(SGD(1.0, clip_norm=1.0).step_vector(np.zeros(2), np.array([bad, 1.0]))).all()


def test_huge_gradients_keep_their_direction() -> None:
    """A gradient whose squares are beyond floats is scaled to the norm all the same."""
    found = SGD(1.0, clip_norm=5.0).step_vector(np.zeros(2), np.array([3e200, -4e200]))
    assert found.tolist() == pytest.approx([-3.0, 4.0], rel=1e-15)


@pytest.mark.parametrize("decay", [ExponentialDecay(1e200), StepDecay(1e200, every=1)])
def test_a_rate_that_grows_beyond_all_numbers_is_infinite(decay: Any) -> None:
    """That is no error, and nothing times it is nothing."""
    assert Schedule(0.5, decay=decay)(1) == 0.5e200
    assert Schedule(0.5, decay=decay)(2) == np.inf
    assert Schedule(0.0, decay=decay)(2) == 0.0
