"""Which loop each structural op becomes, where its arrays are large."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..ir import Row
from ..ops import Op
from ..ops.contraction import logsumexp, matmul, matmul_samples, max_, sum_, sum_samples
from ..ops.indexing import one_hot, scatter_add, scatter_add_samples, take
from ..ops.movement import concat, flip, pad, reshape, slice_, transpose
from ..shapes import size
from .cells import moved
from .choices import OneHot, Scatter, Take
from .nests import Fill, Reduce
from .products import Product, SampleSum, summed_alone, summed_matmul, summed_product
from .storage import Ramp, Space

if TYPE_CHECKING:
    from .lower import Lowering


def lower_nest(lowering: Lowering, row: Row) -> None:
    """Adds the steps of a node whose operands lie in memory."""
    NESTS[row[1]](lowering, row)


def _reduce(lowering: Lowering, row: Row) -> None:
    product = lowering.absorbed(row[0])
    if product is not None:
        _add_product(lowering, Product.of_sum(lowering, row, lowering.graph.arguments(product)))
        return
    step = Reduce.of(lowering, row)
    lowering.steps_in(step.target.space).append(step)


def _matmul(lowering: Lowering, row: Row) -> None:
    _add_product(lowering, Product.of(lowering, row))


def _add_product(lowering: Lowering, step: Product) -> None:
    lowering.steps_in(step.target.array.space).append(step)


def _sum_samples(lowering: Lowering, row: Row) -> None:
    node, op, operands, _ = row
    product = lowering.absorbed(node)
    if op is matmul_samples:
        factors = summed_matmul(lowering, operands)
    elif product is None:
        factors = summed_alone(lowering, operands[0])
    elif lowering.graph.op(product) is matmul:
        factors = summed_matmul(lowering, lowering.graph.arguments(product))
    else:
        factors = summed_product(lowering, product, lowering.graph.arguments(product))
    blockwise = lowering.is_blockwise(node)
    step = SampleSum.of(lowering, node, factors, blockwise=blockwise)
    (lowering.steps.block if blockwise else lowering.steps.tile).append(step)


def _copies(lowering: Lowering, row: Row) -> None:
    """An op that moves elements, of operands that do not lie together."""
    node, op, operands, attributes = row
    target = lowering.result(node)
    bounds = np.cumsum([0, *(size(lowering.graph.shape(k)) for k in operands)])
    numbered = [
        np.arange(start, stop).reshape(lowering.graph.shape(k)) for start, stop, k in zip(bounds, bounds[1:], operands, strict=False)
    ]
    source_of = moved(op)(numbered, attributes)
    for start, stop, operand in zip(bounds, bounds[1:], operands, strict=False):
        chosen = (source_of >= start) & (source_of < stop)
        array = lowering.arrays[operand]
        source = array.moved(array.index.ravel()[source_of[chosen] - start])
        lowering.copy(source, target.moved(target.index[chosen]))


def _pad(lowering: Lowering, row: Row) -> None:
    node, op, operands, attributes = row
    target = lowering.result(node)
    array = lowering.arrays[operands[0]]
    lowering.steps_in(target.space).append(Fill(target, Ramp.of(target.index, lowering.storage), 0.0))
    number = moved(op)([np.arange(1, array.index.size + 1).reshape(array.shape)], attributes)
    chosen = number > 0
    lowering.copy(array.moved(array.index.ravel()[number[chosen] - 1]), target.moved(target.index[chosen]))


def _one_hot(lowering: Lowering, row: Row) -> None:
    step = OneHot.of(lowering, row)
    lowering.steps_in(step.target.space).append(step)


def _take(lowering: Lowering, row: Row) -> None:
    step = Take.of(lowering, row)
    lowering.steps_in(step.target.space).append(step)


def _scatter_add(lowering: Lowering, row: Row) -> None:
    step = Scatter.of(lowering, row)
    target = step.target
    if target.space is Space.SUMS and row[1] is scatter_add_samples:
        lowering.zeroed.append(target)
        lowering.steps.tile.append(step)
        return
    lowering.steps_in(target.space).append(Fill(target, Ramp.of(target.index, lowering.storage), 0.0))
    lowering.steps_in(target.space).append(step)


NESTS: dict[Op, Callable[[Lowering, Row], None]] = {
    **dict.fromkeys((sum_, max_, logsumexp), _reduce),
    **dict.fromkeys((reshape, transpose, slice_, flip, concat), _copies),
    matmul: _matmul,
    matmul_samples: _sum_samples,
    sum_samples: _sum_samples,
    pad: _pad,
    take: _take,
    one_hot: _one_hot,
    scatter_add: _scatter_add,
    scatter_add_samples: _scatter_add,
}
