"""Landlock: a Linux process gives up rights for good. Where the kernel has none of it, nothing happens.

https://docs.kernel.org/userspace-api/landlock.html has the numbers; they are part of the kernel's interface and the same on all processors.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION, PATH_BENEATH = 1, 1
SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, REMOVE_DIR, REMOVE_FILE = 1 << 0, 1 << 1, 1 << 4, 1 << 5
MAKE_REG, MAKE_ALL = 1 << 8, sum(1 << bit for bit in range(6, 13))
REFER, TRUNCATE, DEVICE_CONTROL = 1 << 13, 1 << 14, 1 << 15
CHANGES = {1: EXECUTE | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_ALL, 2: REFER, 3: TRUNCATE, 5: DEVICE_CONTROL}
"""Rights to run programs and to change files, by the version of Landlock that first knew them. Reading is not among them."""
KEEPING = WRITE_FILE | REMOVE_FILE | MAKE_REG | TRUNCATE
"""What keeping files in one directory takes."""
TCP_BIND_AND_CONNECT = 0b11  # version 4
ABSTRACT_SOCKETS_AND_SIGNALS = 0b11  # version 6


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: ctypes.c_long | ctypes.c_char_p | None) -> int:
    """Raises OSError."""
    answer: int = _libc().syscall(ctypes.c_long(number), *arguments)
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return answer


def version() -> int:
    """Landlock's version here; 0 without it."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        return _syscall(CREATE_RULESET, None, ctypes.c_long(0), ctypes.c_long(ASK_VERSION))
    except OSError:
        return 0


def no_new_privileges() -> bool:
    """No program that this process starts has more rights than it, whatever its file says; whether that could be had."""
    return sys.platform.startswith("linux") and bool(_libc().prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


def restrict(writable: Iterable[Path]) -> bool:
    """From now on this thread, and those that it starts, change no file but in these directories, run no program and open no connection.

    Whether the kernel could do so; needs `no_new_privileges`. What is open already stays open. Raises OSError.
    """
    known = version()
    if not known:
        return False
    rights = sum(bits for first, bits in CHANGES.items() if first <= known)
    network, scopes = TCP_BIND_AND_CONNECT if known >= 4 else 0, ABSTRACT_SOCKETS_AND_SIGNALS if known >= 6 else 0
    attributes = struct.pack("QQQ", rights, network, scopes)[: 8 if known < 4 else 16 if known < 6 else 24]
    rules = _syscall(CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_long(len(attributes)), ctypes.c_long(0))
    try:
        for path in writable:
            _allow(rules, path, KEEPING & rights)
        _syscall(RESTRICT_SELF, ctypes.c_long(rules), ctypes.c_long(0))
    finally:
        os.close(rules)
    return True


def _allow(rules: int, path: Path, rights: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = struct.pack("=Qi", rights, folder)
            _syscall(ADD_RULE, ctypes.c_long(rules), ctypes.c_long(PATH_BENEATH), ctypes.c_char_p(rule), ctypes.c_long(0))
        finally:
            os.close(folder)
