"""A training loop: minibatches in a seeded order, an optimiser, a history and a progress bar."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sumgrad_engine.errors import InputError
from sumgrad_engine.objective import Objective
from sumgrad_engine.options import Evaluator, Precision
from sumgrad_engine.program import Result
from tqdm.auto import tqdm

from .inprocess import here
from .optim import Optimizer
from .resident import Dataset

__all__ = ["Epoch", "Fit", "fit"]

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Params: TypeAlias = dict[str, NDArray[Any]]


class GradientSource(Protocol):
    """What sums gradients: a service, or `sg.here`."""

    def value_and_grad(
        self,
        objective: Objective,
        params: Mapping[str, ArrayLike],
        data: Any,
        *,
        rows: NDArray[np.int64] | None = None,
        evaluator: Evaluator = "auto",
        precision: Precision = "f64",
    ) -> Result:
        """Value and gradient of the objective over the data, or these rows of it."""
        ...


@dataclass(frozen=True)
class Epoch:
    """One pass over the data. `number` counts from 1; `params` are those after it.

    `value` and `metrics` are gathered on the way, each batch at the parameters before its step, and combined as the objective reduces:
    summed over batches (so that the penalty counts once a batch), or averaged by the batches' sizes.
    """

    number: int
    value: float
    metrics: dict[str, NDArray[Any]]
    params: Params


@dataclass(frozen=True)
class Fit:
    """What a fit ended with: the parameters, and every epoch that led there."""

    params: Params
    history: tuple[Epoch, ...]

    @property
    def value(self) -> float:
        """The objective's value as the last epoch gathered it. ValueError if there was none, since the run had ended before."""
        if not self.history:
            raise ValueError("this fit has no value: its run had ended before it took a step; run.info().last has the last one")
        return self.history[-1].value


@runtime_checkable
class TrainingRun(Protocol):
    """A training run, which several fits take part in together."""

    def fitted(
        self,
        objective: Objective,
        data: Mapping[str, ArrayLike] | Dataset,
        optimizer: Optimizer | None,
        batch_size: int | None,
        epochs: int,
        seed: int,
        shown: Callable[[Epoch], None],
        callback: Callable[[Epoch], object] | None,
    ) -> Fit:
        """Takes part for so many epochs; each is `shown`."""
        ...


def fit(
    service: GradientSource | TrainingRun | None,
    objective: Objective,
    data: Mapping[str, ArrayLike] | Dataset,
    optimizer: Optimizer | None,
    batch_size: int | None = None,
    epochs: int = 1,
    *,
    params: Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
    progress: bool = True,
    callback: Callable[[Epoch], object] | None = None,
    ahead: int = 0,
    evaluator: Evaluator = "auto",
    precision: Precision = "f64",
) -> Fit:
    """Trains the parameters of an objective on data whose arrays have a leading sample axis, or on a dataset that was uploaded to the service.

    `service` sums the gradients; None does it in this process. It may be a run (`Service.run`): then this fit is one of its members, all of which have the
    same data and share each batch (in the order of `sumgrad.batches`, which is another than that of a fit on a service); the run has the parameters, and the
    optimiser too, unless it was made without one; the objective must be the run's. Without a `batch_size` every step takes all samples in their order; with
    one, each epoch goes through them in a new order that `seed` decides. `params` are the starting values (None: the objective's own).
    `callback` is called after each epoch; a true result ends the fit.

    `ahead` is how many batches are on their way before the step of the one before them is made, over a stream: the gradient of a batch is then that many steps
    late ("delayed SGD": Zinkevich, Langford and Smola, "Slow Learners are Fast", 2009), and the way to the service and back costs no time. With 0 every gradient
    is taken at the newest parameters. Small numbers change little where learning rates are small; large ones want smaller rates. At the end of an epoch
    all its gradients are applied. `evaluator` and `precision` are as for `value_and_grad`. The same
    arguments give the same bits.
    """
    checked_counts(epochs, batch_size)
    if ahead < 0:
        raise ValueError(f"ahead counts batches from 0, not {ahead}")
    with tqdm(total=epochs, disable=not progress, unit="epoch") as bar:
        if isinstance(service, TrainingRun):
            if params is not None or ahead:
                raise ValueError("a run has its own parameters, and goes on step by step: fit it without params and ahead")
            if (evaluator, precision) != ("auto", "f64"):
                raise ValueError("what evaluates a run, and in which precision, was said when it was made: fit it without")
            return service.fitted(objective, data, optimizer, batch_size, epochs, seed, partial(_show, bar), callback)
        if optimizer is None:
            raise ValueError("only a run may have an optimiser of its own: pass one")
        if isinstance(data, Dataset) and service is None:
            raise ValueError("a Dataset is on its service, which has to sum the gradients too: pass the service")
        arrays = data if isinstance(data, Dataset) else {name: np.asarray(values) for name, values in data.items()}
        batches = _Batches(arrays, batch_size, seed)
        start = objective.params if params is None else params
        current = {name: np.asarray(value) for name, value in start.items()}
        with _source(service, ahead) as source:
            ask = partial(source, objective, evaluator=evaluator, precision=precision)
            return _fitted(ask, objective.reduction, optimizer, current, batches, epochs, ahead, bar, callback)


def _fitted(
    ask: Callable[..., Future[Result]],
    reduction: str,
    optimizer: Optimizer,
    current: Params,
    batches: _Batches,
    epochs: int,
    ahead: int,
    bar: tqdm[Any],
    callback: Callable[[Epoch], object] | None,
) -> Fit:
    history: list[Epoch] = []
    for number in range(1, epochs + 1):
        results: list[Result] = []
        late: deque[Future[Result]] = deque()
        for batch, rows in batches:
            late.append(ask(current, batch, rows=rows))
            if len(late) > ahead:
                current = _stepped(optimizer, current, late, results)
        while late:
            current = _stepped(optimizer, current, late, results)
        history.append(gathered(number, results, reduction, current))
        _show(bar, history[-1])
        if callback is not None and callback(history[-1]):
            bar.total = number  # so that the bar ends full
            break
    return Fit(current, tuple(history))


def checked_counts(epochs: int, batch_size: int | None) -> None:
    """Raises ValueError unless both count from 1."""
    if epochs < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(f"epochs and batch_size count from 1, not epochs={epochs}, batch_size={batch_size}")


def _stepped(optimizer: Optimizer, current: Params, late: deque[Future[Result]], results: list[Result]) -> Params:
    """The parameters after the step of the gradient whose turn it is."""
    results.append(late.popleft().result())
    return {**optimizer.step(current, results[-1].grads)}


@contextmanager
def _source(service: GradientSource | None, ahead: int) -> Iterator[Callable[..., Future[Result]]]:
    """What gives gradients as futures: the stream of a service, or calls that are over when they return."""
    stream = getattr(service, "stream", None)
    if ahead and stream is not None:
        with stream(ahead + 1) as opened:
            yield opened.value_and_grad
    else:
        yield partial(_now, service or here)


def _now(source: GradientSource, *args: Any, **options: Any) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_result(source.value_and_grad(*args, **options))
    return future


class _Batches:
    """The batches of one epoch, in another order each time they are gone through: arrays, or a dataset and rows of it."""

    def __init__(self, data: Arrays | Dataset, batch_size: int | None, seed: int) -> None:
        self._data = data
        self._samples = data.sample_count if isinstance(data, Dataset) else sample_count(data)
        self._size = min(batch_size or self._samples, self._samples)
        self._generator = np.random.default_rng(seed) if batch_size is not None else None

    def __iter__(self) -> Iterator[tuple[Arrays | Dataset, NDArray[np.int64] | None]]:
        if self._generator is None:
            yield self._data, None
            return
        order = self._generator.permutation(self._samples)
        for start in range(0, self._samples, self._size):
            rows = order[start : start + self._size]
            if isinstance(self._data, Dataset):
                yield self._data, rows
            else:
                yield {name: values[rows] for name, values in self._data.items()}, None


def sample_count(arrays: Arrays) -> int:
    """The number of samples that all arrays have. Raises InputError."""
    for name, values in arrays.items():
        if values.ndim == 0 or len(values) == 0:
            raise InputError(f"inputs.{name} needs a leading sample axis with at least one sample", field=f"inputs.{name}")
    counts = {name: len(values) for name, values in arrays.items()}
    if len(set(counts.values())) != 1:
        raise InputError(f"the arrays have different numbers of samples: {counts}", field="inputs")
    return next(iter(counts.values()))


class Summed(Protocol):
    """Sums over a batch: a result, or a step of a run."""

    @property
    def value(self) -> float:
        """The objective's."""

    @property
    def metrics(self) -> Mapping[str, NDArray[Any]]:
        """By name."""

    @property
    def count(self) -> int:
        """How many samples."""


def gathered(number: int, results: Sequence[Summed], reduction: str, params: Params) -> Epoch:
    """The epoch of these batches."""
    total = sum(result.count for result in results)
    weights = [result.count / total if reduction == "mean" else 1.0 for result in results]
    pairs = list(zip(weights, results, strict=True))
    return Epoch(
        number=number,
        value=float(sum(weight * result.value for weight, result in pairs)),
        metrics={name: np.asarray(sum(weight * result.metrics[name] for weight, result in pairs)) for name in results[0].metrics},
        params=params,
    )


def _show(bar: tqdm[Any], epoch: Epoch) -> None:
    scalars = {name: float(value) for name, value in epoch.metrics.items() if np.ndim(value) == 0}
    bar.set_postfix({"value": f"{epoch.value:.4g}", **{name: f"{value:.4g}" for name, value in scalars.items()}}, refresh=False)
    bar.update()
