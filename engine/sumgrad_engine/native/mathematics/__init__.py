"""The vector functions of the compiler, written here in vector operations.

Not a vendor's library, nor glibc's libmvec: their results differ in last bits from one version and one processor to the next, they err by up to
4 ulp, they can't be copied into the loops that call them, and they are not everywhere. These have the same bits on every machine with fused
multiply-add, whatever the width of its vectors.
"""

from __future__ import annotations

import importlib
import pkgutil

from ..lanes import Body

FUNCTIONS: dict[str, Body] = {}
for _module in pkgutil.iter_modules(__path__):
    FUNCTIONS |= getattr(importlib.import_module(f"{__name__}.{_module.name}"), "FUNCTIONS", {})
