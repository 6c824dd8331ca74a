"""micrograd's own interface with its behaviour and its numbers, on sumgrad's expressions.

A program written for Karpathy's micrograd changes its imports and nothing else:

    from sumgrad.micrograd.engine import Value
    from sumgrad.micrograd.nn import MLP
    from sumgrad.micrograd import draw_dot

Beyond micrograd there are `tanh`, `exp` and `activation="tanh"`, as in go-micrograd; no depth is too large for `backward()`; `draw_dot` needs no
Graphviz; and every Value is one of sumgrad's, so its functions, `display()` and `service.backward()` take it.
"""

from . import engine, nn
from .drawing import Drawing, draw_dot, trace
from .engine import Value

__all__ = ["Drawing", "Value", "draw_dot", "engine", "nn", "trace"]
