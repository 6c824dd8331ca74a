"""What a run prints: headings, sentences and tables, which are Markdown and can be written into a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


class Report:
    """Prints at once and keeps what it printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str = "") -> None:
        """One line."""
        print(line, flush=True)
        self.lines.append(line)

    def heading(self, title: str) -> None:
        """A heading of a part."""
        self.say()
        self.say(f"### {title}")
        self.say()

    def notes(self, notes: Sequence[str]) -> None:
        """Remarks under a table, each once."""
        for note in dict.fromkeys(notes):
            self.say(f"- {note}")
        if notes:
            self.say()

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; columns of figures are set to the right."""
        widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]
        figures = [all(map(_is_figure, column)) for column in zip(*rows, strict=True)]
        rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, figures, strict=True)]
        for cells in (head, rule, *rows):
            padded = (cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(cells, widths, figures, strict=True))
            self.say(f"| {' | '.join(padded)} |")
        self.say()

    def write(self, page: Path) -> None:
        """Puts everything between the two marks of a page. ValueError if it has none."""
        before, begin, rest = page.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (begin and end):
            raise ValueError(f"{page} has no place for tables: {BEGIN} and {END}")
        page.write_text("\n".join([before + begin, *self.lines, end + after]))


def figure(value: float) -> str:
    """Three or four digits that matter."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _is_figure(cell: str) -> bool:
    return not set(cell) - set("0123456789.,%e+-")
