"""An expression as an SVG picture, laid out here: no Graphviz program is needed.

Only plain attributes are used, no style sheet and no ids, because notebooks put the picture into a page with others. Text is on boxes of its own
colour and lines are of a middle grey, so that it reads on light and on dark pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from unicodedata import east_asian_width
from xml.sax.saxutils import escape

from .dot import Direction, cells, checked
from .layout import Layout, Point, arrange
from .nodes import Look, Node, edges, engine_look, gather

MOST_NODES = 2_000
"""Beyond this a picture tells nobody anything, and its layout takes long."""

_FONT = 12.0
_CHARACTER = 0.62 * _FONT
"""Monospaced fonts are 0.55 to 0.61 of their size wide."""
_ROW, _PADDING, _STEM, _GAP, _BORDER = 26.0, 9.0, 16.0, 14.0, 10.0
_LINE, _TEXT, _LEAF, _RESULT, _NAME, _OP = "#8792a2", "#1c2733", "#eaf2fd", "#ffffff", "#d3e3fa", "#fdeecb"
_FAMILY = "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace"


@dataclass(frozen=True)
class _Card:
    """A node as drawn: a box of cells, with the op in a pill before it."""

    cells: Sequence[str]
    named: bool
    symbol: str
    full: str

    @property
    def box(self) -> float:
        return sum(map(_width, self.cells))

    @property
    def pill(self) -> float:
        return max(_ROW, _width(self.symbol)) if self.symbol else 0.0

    def thickness(self, rankdir: Direction) -> float:
        """Extent in the direction of the flow."""
        box, pill = (self.box, self.pill) if rankdir == "LR" else (_ROW, _ROW)
        return box + (pill + _STEM if self.symbol else 0.0)

    def width(self, rankdir: Direction) -> float:
        """Extent across the flow."""
        return _ROW if rankdir == "LR" else max(self.box, self.pill)


def to_svg(root: Node, rankdir: Direction = "LR", look: Look = engine_look) -> str:
    """The picture, from left to right ("LR") or from top to bottom ("TB").

    Raises LimitError for more than MOST_NODES nodes.
    """
    checked(rankdir)
    nodes = gather(root, look, MOST_NODES)
    cards = [_Card(cells(node), bool(node.name), look(node)[0], _full(node)) for node in nodes]
    layout = arrange([card.thickness(rankdir) for card in cards], [card.width(rankdir) for card in cards], edges(nodes, look), _GAP)
    return "\n".join(_picture(cards, layout, rankdir))


def _full(node: Node) -> str:
    """What a pointer over the box shows: the figures with all their digits."""
    return "" if node.symbolic or node.shape else f"data {node.data!r}\ngrad {node.grad!r}"


def _picture(cards: Sequence[_Card], layout: Layout, rankdir: Direction) -> Iterator[str]:
    width, height = _turned((layout.main + 2 * _BORDER, layout.cross + 2 * _BORDER), rankdir)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'font-family="{_FAMILY}" font-size="{_FONT:g}" text-anchor="middle">'
    )
    yield f'<g transform="translate({_BORDER:g} {_BORDER:g})" stroke="{_LINE}" stroke-width="1.2" fill="none">'
    for route in layout.routes.values():
        yield _line(route, rankdir)
    for index, (card, end) in enumerate(zip(cards, layout.ends, strict=True)):
        yield from _card(card, end, rankdir, last=index == len(cards) - 1)
    yield "</g>\n</svg>"


def _turned(point: Point, rankdir: Direction) -> Point:
    """(main, cross) as (x, y)."""
    return point if rankdir == "LR" else (point[1], point[0])


def _at(point: Point, rankdir: Direction) -> str:
    x, y = _turned(point, rankdir)
    return f"{x:.1f},{y:.1f}"


def _line(route: Sequence[Point], rankdir: Direction) -> str:
    """Straight inside layers, curved between them, with an arrowhead."""
    steps = [f"M{_at(route[0], rankdir)}"]
    for here, there in pairwise(route):
        middle = (here[0] + there[0]) / 2
        if here[1] == there[1]:
            steps.append(f"L{_at(there, rankdir)}")
        else:
            steps.append(f"C{' '.join(_at(point, rankdir) for point in ((middle, here[1]), (middle, there[1]), there))}")
    return f'<path d="{" ".join(steps)}"/>{_arrowhead(route[-1], rankdir)}'


def _arrowhead(tip: Point, rankdir: Direction) -> str:
    corners = " ".join(_at((tip[0] + back, tip[1] + side), rankdir) for back, side in ((-7, -3.5), (0, 0), (-7, 3.5)))
    return f'<polygon points="{corners}" fill="{_LINE}" stroke="none"/>'


def _card(card: _Card, end: Point, rankdir: Direction, *, last: bool) -> Iterator[str]:
    """The pill, the stem and the box of a node whose far side is at `end`."""
    if card.symbol:
        box_start = end[0] - (card.box if rankdir == "LR" else _ROW)
        yield _line([(box_start - _STEM, end[1]), (box_start, end[1])], rankdir)
        half = (card.pill if rankdir == "LR" else _ROW) / 2
        yield from _pill(card, _turned((box_start - _STEM - half, end[1]), rankdir))
    x, y = _turned(end, rankdir)
    yield from _box(card, (x - card.box, y - _ROW / 2) if rankdir == "LR" else (x - card.box / 2, y - _ROW), last=last)


def _pill(card: _Card, centre: Point) -> Iterator[str]:
    x, y = centre
    yield _rectangle((x - card.pill / 2, y - _ROW / 2), card.pill, _OP, _ROW / 2)
    yield _text(card.symbol, x, y)


def _box(card: _Card, corner: Point, *, last: bool) -> Iterator[str]:
    x, y = corner
    yield "<g>" + (f"<title>{escape(card.full)}</title>" if card.full else "")
    yield _rectangle(corner, card.box, _RESULT if card.symbol else _LEAF, 4.0, 2.2 if last else 1.2)
    for position, cell in enumerate(card.cells):
        width = _width(cell)
        if position:
            yield f'<path d="M{x:.1f},{y:.1f} v{_ROW:g}"/>'
        yield _text(cell, x + width / 2, y + _ROW / 2, bold=card.named and position == 0)
        x += width
    yield "</g>"


def _rectangle(corner: Point, width: float, fill: str, radius: float, line: float = 1.2) -> str:
    thick = f' stroke-width="{line:g}"' if line != 1.2 else ""
    return f'<rect x="{corner[0]:.1f}" y="{corner[1]:.1f}" width="{width:.1f}" height="{_ROW:g}" rx="{radius:g}" fill="{fill}"{thick}/>'


def _text(text: str, x: float, y: float, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y + 0.35 * _FONT:.1f}" fill="{_TEXT}" stroke="none"{weight}>{escape(text)}</text>'


def _width(text: str) -> float:
    """Width of a cell with this text; ideographs take two places."""
    places = sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
    return places * _CHARACTER + 2 * _PADDING
