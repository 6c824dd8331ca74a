"""Compiled code is loaded wherever there is room: in a process that has mapped gigabytes, with small gaps between them, too."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import ctypes, mmap
import numpy as np
import sumgrad_engine as sg

PAGE, GIB = mmap.PAGESIZE, 1 << 30
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def take(nbytes):
    address = libc.mmap(None, nbytes, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    assert address != ctypes.c_void_p(-1).value
    return address


x, w = sg.input("x", shape=3), sg.param("w", np.linspace(-1, 1, 12).reshape(3, 4))
h = x @ w
for _ in range(20):
    h = sg.tanh(h * sg.sin(h)) + sg.exp(-sg.square(h))
objective, data = sg.Objective(sg.sum(h)), {"x": np.linspace(-1, 1, 300).reshape(100, 3)}

pages = [take(PAGE) for _ in range(30_000)]  # fills the gaps that are there
far = take(8 * GIB)                          # as a dataset would
while take(PAGE) > far:                      # fills what the kernel left so that the large one begins where large pages do
    pass
for position, page in enumerate(pages):
    if position % 64 < 16:                   # room for the constants (5 pages), and none for the code (100), on this side of it
        libc.munmap(page, PAGE)
found = objective.value_and_grad(objective.params, data, evaluator="compiled")
wanted = objective.value_and_grad(objective.params, data, evaluator="reference")
np.testing.assert_allclose(found.value, wanted.value, rtol=1e-12)
print(found.evaluator)
"""


def test_constants_are_never_too_far_from_code() -> None:
    """Where constants fit into a gap that code does not fit into, the two still lie together: else LLVM ends the process."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "compiled\n"), done.stderr
