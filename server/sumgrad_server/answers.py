"""Gradients on the wire: a message with all names and shapes is made once a layout, and then copied and filled with numbers."""

from __future__ import annotations

from itertools import chain

from sumgrad_engine.layout import Layout, Vector
from sumgrad_engine.shapes import size
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire

from .recent import Recent

KEPT = 256
FLOAT_BYTES = 8


class GradientAnswer:
    """Answers of one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._template = wire.GradientResponse()
        self._ends: list[int] = []
        position = FLOAT_BYTES
        for messages, entries in ((self._template.metrics, layout.metrics), (self._template.gradients, layout.grads)):
            for name, shape in entries:
                messages.add(name=name, array=graph_pb2.Array(dtype=graph_pb2.DTYPE_F64, shape=shape))
                position += FLOAT_BYTES * size(shape)
                self._ends.append(position)

    def response(self, vector: Vector) -> wire.GradientResponse:
        """Value, metrics and gradients of a vector as a message that says nothing else."""
        made = wire.GradientResponse()
        made.CopyFrom(self._template)
        made.value = vector[0]
        data, start = vector.astype("<f8", copy=False).tobytes(), FLOAT_BYTES
        for message, end in zip(chain(made.metrics, made.gradients), self._ends, strict=True):
            message.array.data = data[start:end]
            start = end
        return made


class GradientAnswers:
    """Those of the layouts that were asked for last, by identity: comparing layouts of many thousands of names would take longer than making one."""

    def __init__(self) -> None:
        self._kept: Recent[int, GradientAnswer] = Recent(KEPT)

    def get(self, layout: Layout) -> GradientAnswer:
        """What answers with this layout."""
        found = self._kept.find(id(layout))
        if found is None or found.layout is not layout:
            found = GradientAnswer(layout)
            self._kept.put(id(layout), found)
        return found
