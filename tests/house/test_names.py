"""The names that users rely on."""

from __future__ import annotations

import types

import pytest
import sumgrad
import sumgrad.aio
import sumgrad_engine


@pytest.mark.parametrize("package", [sumgrad, sumgrad_engine], ids=lambda package: package.__name__)
def test_all_is_what_is_public(package: types.ModuleType) -> None:
    """`__all__` lists each name once, each is there, and what is there without an underscore is listed, submodules aside."""
    public = {name for name, value in vars(package).items() if not name.startswith("_") and not _is_aside(name, value)}
    assert len(package.__all__) == len(set(package.__all__))
    assert [name for name in package.__all__ if not hasattr(package, name)] == []
    assert public - set(package.__all__) == set()


def _is_aside(name: str, value: object) -> bool:
    """Submodules and what `from __future__` or typing leaves behind."""
    return isinstance(value, types.ModuleType) or name in {"annotations", "TYPE_CHECKING", "Any", "import_module"}


def test_promised_names_are_there() -> None:
    """What the first release promised under a name is there under that name."""
    promised = """
        Value input param Objective connect local grad hvp hessian nn optim fit micrograd
        exp expm1 log log1p sqrt abs sign sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh square reciprocal pow hypot maximum
        minimum where sum mean max logsumexp matmul reshape transpose stack concat take
        relu sigmoid softplus gelu erf erfc lgamma digamma softmax log_softmax one_hot
    """
    assert [name for name in promised.split() if not hasattr(sumgrad, name)] == []
