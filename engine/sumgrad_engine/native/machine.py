"""LLVM at work: from IR text to machine code, and machine code to functions that can be called."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

LEVEL = 2


@dataclass(frozen=True)
class Machine:
    """A processor to compile for: LLVM's names of the model and of its features."""

    cpu: str
    features: str = ""

    @property
    def vector_bytes(self) -> int:
        """Bytes of the widest vectors that it has."""
        if "+avx512f" in self.features or self.cpu in ("x86-64-v4",):
            return 64
        return 32 if "+avx2" in self.features or self.cpu in ("x86-64-v3",) else 16

    @property
    def has_fma(self) -> bool:
        """Whether it multiplies and adds in one instruction: code counts on it."""
        return "+fma" in self.features or self.cpu in ("x86-64-v3", "x86-64-v4") or platform.machine() in ("aarch64", "arm64")


AVX2 = Machine("x86-64-v3")
AVX512 = Machine("x86-64-v4")


@functools.cache
def host() -> Machine:
    """The processor that this process runs on."""
    _initialize()
    return Machine(llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _target(machine: Machine, level: int = LEVEL) -> Any:
    """LLVM's target machine: a new one each time, because an execution engine takes over the one that it is given."""
    _initialize()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=machine.cpu, features=machine.features, opt=level, jit=True, codemodel="small", reloc="pic")


def compile_object(text: str, machine: Machine, *, quick: bool = False) -> bytes:
    """The object file of a module in LLVM's assembly language; `quick` code is made several times faster and runs slower."""
    target = _target(machine, 0 if quick else LEVEL)
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(target.target_data)
    passes = llvm.create_new_module_pass_manager()
    # The code comes as it should be: what is left is to copy functions into their callers and to keep variables in registers.
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.run(module, llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=1)))
    found: bytes = target.emit_object(module)
    return found


class Library:
    """A loaded object file; its functions live as long as it does."""

    def __init__(self, code: bytes, machine: Machine | None = None) -> None:
        empty = llvm.parse_assembly("")
        # llvmlite's memory manager reserves room for code and constants at once. LLVM's own puts each where it fits, and ends the process
        # if they then lie more than 2 GiB apart, which they can where data of that size is mapped.
        self._engine = llvm.create_mcjit_compiler(empty, _target(machine or host()), use_lmm=True)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Where a function lies."""
        found: int = self._engine.get_function_address(name)
        return found
