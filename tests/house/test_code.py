"""How the code is written, as far as it can be counted."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

Sources = list[tuple[Path, ast.Module]]
Function = ast.FunctionDef | ast.AsyncFunctionDef

MEDIAN_LINES, NINETIETH_LINES, FILE_LINES = 8, 30, 500
# Each pattern is written so that it does not match itself.
UNFINISHED = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X]|HAC[K])\b")
LOCAL = re.compile(r"(?<![\w.-])/(wor[k]|roo[t]|home/\w+)/|/opt/(pyp[i]|wheel[s])|pypi[.]org|python[h]osted|--(extra-)?index[-]url")


def _functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def _lines(function: Function) -> int:
    """Lines from `def` to the end, without the docstring."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    assert function.end_lineno is not None
    assert first.end_lineno is not None
    return function.end_lineno - function.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


def test_functions_are_small(sources: Sources) -> None:
    """Half of all functions have at most 8 lines, nine in ten at most 30."""
    lengths = [_lines(function) for _, tree in sources for function in _functions(tree)]
    assert statistics.median(lengths) <= MEDIAN_LINES
    assert statistics.quantiles(lengths, n=10)[-1] <= NINETIETH_LINES


def test_files_are_small(sources: Sources, repository: Path) -> None:
    """No file of the packages has more than 500 lines."""
    lengths = {str(path.relative_to(repository)): len(path.read_text().splitlines()) for path, _ in sources}
    assert {name: length for name, length in lengths.items() if length > FILE_LINES} == {}


def test_modules_say_what_they_are_for(sources: Sources, repository: Path) -> None:
    """Every module begins with a docstring."""
    assert [str(path.relative_to(repository)) for path, tree in sources if not ast.get_docstring(tree)] == []


def test_every_test_says_what_it_shows(tracked: list[Path], repository: Path) -> None:
    """Each test function has a docstring."""
    silent = [
        f"{path.relative_to(repository)}:{function.lineno} {function.name}"
        for path in tracked
        if path.name.startswith("test_") and path.suffix == ".py"
        for function in _functions(ast.parse(path.read_text()))
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert silent == []


def test_nothing_is_left_for_later(tracked: list[Path], repository: Path) -> None:
    """No file holds a note that something is yet to be done."""
    assert _matches(tracked, repository, UNFINISHED) == []


def _matches(paths: list[Path], repository: Path, pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(repository)}:{number}: {line.strip()[:120]}"
        for path in paths
        for number, line in enumerate(_text(path).splitlines(), 1)
        if pattern.search(line)
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:  # a picture, a golden message
        return ""


def test_no_file_names_one_machine(tracked: list[Path], repository: Path) -> None:
    """No tracked file names a package registry's host or a path that only one machine has."""
    assert _matches(tracked, repository, LOCAL) == []
