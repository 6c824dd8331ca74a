"""CasADi: one sample's gradient in its scalar expressions, mapped over the samples by its virtual machine, and as generated C.

Both are called through buffers, without a copy; the map adds the outputs up. What is measured is float64, as CasADi has no other.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from ..compiled import compiler, folder
from ..contender import Answer, Contender, Entries, Missing, Task
from ..forms import Forms
from ..space import Space
from .micrograd_peer import with_penalty

SAMPLES = 8_192
"""Samples of one run at most: the time a sample does not depend on their number."""
C_PARAMETERS = 5_000
"""Parameters up to which C is generated: gcc -O3 takes minutes for more lines."""


def _space() -> Space:
    import casadi as ca

    return Space(
        exp=ca.exp,
        log=ca.log,
        sqrt=ca.sqrt,
        tanh=ca.tanh,
        erf=ca.erf,
        relu=lambda a: ca.fmax(a, 0),
        softplus=lambda a: ca.fmax(a, 0) + ca.log1p(ca.exp(-ca.fabs(a))),
        logsumexp=lambda values: ca.logsumexp(ca.vertcat(*values)),
    )


def contenders(task: Task, forms: Forms) -> Entries:
    """The virtual machine, and C with -O3 -march=native where it can be compiled in reasonable time."""
    try:
        import casadi  # noqa: F401
    except ImportError:
        raise Missing("CasADi is not installed") from None
    if task.precision != "f64":
        return
    if task.work.key == "g":
        raise Missing("CasADi has no lgamma")
    few = task.first(max(8, min(SAMPLES, SAMPLES * 100 // task.work.parameters)))
    mapped = _mapped(few, forms)
    yield _contender("CasADi, map", mapped, few, forms)
    if task.work.parameters > C_PARAMETERS:
        yield Missing(f"CasADi's C has a line for each operation: gcc takes too long for {task.work.parameters:,} parameters")
        return
    yield _contender("CasADi, generated C", compiled(mapped, re.sub(r"\W+", "_", f"{task.work.name}_{task.samples}")), few, forms)


def _mapped(task: Task, forms: Forms) -> Any:
    """The function from (parameters, samples as columns) to (value, gradient), summed over the samples."""
    import casadi as ca

    params = ca.SX.sym("params", task.work.parameters)
    data = forms.prepare(task.data)
    sample = ca.SX.sym("sample", sum(array[0].size for array in data.values()))
    loss = forms.scalar(_space(), _split(params, task.params), _split(sample, {name: array[0] for name, array in data.items()}))
    one = ca.Function("one", [params, sample], [loss, ca.gradient(loss, params)])
    return one.map("gradient", "serial", task.samples, [0], [0, 1])


def _split(vector: Any, arrays: Any) -> Any:
    """A column of symbols as nested lists of scalars, in the shapes of these arrays."""
    parts = np.split(np.array(vector.elements(), dtype=object), np.cumsum([np.size(array) for array in arrays.values()])[:-1])
    return {name: part.reshape(np.shape(array)).tolist() for (name, array), part in zip(arrays.items(), parts, strict=True)}


def compiled(function: Any, name: str) -> Any:
    """The same function from the C that CasADi generates for it. Raises Missing."""
    import casadi as ca

    source = folder() / f"casadi_{name}.c"
    generator = ca.CodeGenerator(source.name)
    generator.add(function)
    generator.generate(f"{folder()}/")
    return ca.external("gradient", str(_compile(source)))


def _compile(source: Path) -> Path:
    target = source.with_suffix(".so")
    command = [compiler(), "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(target), "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603 - the compiler, on what CasADi wrote
    except subprocess.TimeoutExpired:
        raise Missing("CasADi's C took more than 120 s to compile") from None
    return target


def _contender(name: str, function: Any, task: Task, forms: Forms) -> Contender:
    params = np.concatenate([array.ravel() for array in task.params.values()])
    rows = [array.reshape(task.samples, -1) for array in forms.prepare(task.data).values()]
    samples = np.concatenate(rows, axis=1)  # row by row here is column by column there
    value, gradient = np.zeros(1), np.zeros(params.size)
    buffer, trigger = function.buffer()
    buffer.set_arg(0, params.data)
    buffer.set_arg(1, samples.reshape(-1).data)
    buffer.set_res(0, value.data)
    buffer.set_res(1, gradient.data)

    def read(_: Any) -> Answer:
        parts = np.split(gradient, np.cumsum([array.size for array in task.params.values()])[:-1])
        grads = {key: part.reshape(task.params[key].shape) for key, part in zip(task.params, parts, strict=True)}
        return with_penalty(forms, task, float(value[0]), grads)

    def run(kept: Any = (buffer, params, samples)) -> None:
        """`kept` is what the buffer needs to stay alive."""
        trigger()

    return Contender(name, task.samples, run, read)
