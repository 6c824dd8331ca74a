"""Expressions as text, DOT and SVG. Lines marked as Go's were printed by go-micrograd's DisplayGraph."""

from __future__ import annotations

import itertools
import math
import random
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from sumgrad_engine import LimitError, Value, exp, input, logsumexp, param  # noqa: A004 - the engine's name
from sumgrad_engine.display import to_dot, to_svg
from sumgrad_engine.display.numbers import compact, go_fixed, go_float

RULE = "-" * 59

GO_NEURON = f"""\
data 0.7071 | grad 1.0000 | prev {{ tanh [0.8813735870195432] }}
{RULE}
data 0.8814 | grad 0.5000 | prev {{ + [-6 6.881373587019543] }}
{RULE}
data -6.0000 | grad 0.5000 | prev {{ + [-6 0] }}
data 6.8814 | grad 0.5000
{RULE}
data -6.0000 | grad 0.5000 | prev {{ * [2 -3] }}
data 0.0000 | grad 0.5000 | prev {{ * [0 1] }}
{RULE}
data 2.0000 | grad -1.5000
data -3.0000 | grad 1.0000
data 0.0000 | grad 0.5000
data 1.0000 | grad 0.0000
{RULE}"""

GO_POWER = f"""\
data 359999999988.0001 | grad 0.0000 | prev {{ Pow [599999.99999 2] }}
{RULE}
data 600000.0000 | grad 0.0000 | prev {{ + [600000 -1e-05] }}
data 2.0000 | grad 0.0000
{RULE}
data 600000.0000 | grad 0.0000 | prev {{ * [1.5e+06 0.4] }}
data -0.0000 | grad 0.0000
{RULE}
data 1500000.0000 | grad 0.0000
data 0.4000 | grad 0.0000
{RULE}"""


def neuron(*names: str) -> Value:
    """go-micrograd's example, with its gradients."""
    x1, w1, x2, w2, b = (Value(data, name) for data, name in zip((2.0, -3.0, 0.0, 1.0, 6.8813735870195432), names or [""] * 5, strict=True))
    out = (x1 * w1 + x2 * w2 + b).tanh()
    out.backward()
    return out


def shared() -> Value:
    """An expression in which two nodes are used twice."""
    a = Value(3.0, "a")
    b = a + 1.0
    return b * b / a


def test_text_is_that_of_go_micrograd() -> None:
    """An expression of unnamed scalars, none of them shared, gives go-micrograd's very lines."""
    assert neuron().display() == GO_NEURON
    assert ((Value(1.5e6) * 0.4 + Value(-1e-5)) ** 2).display() == GO_POWER


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (2.0, "2"),
        (-6, "-6"),
        (6.8813735870195432, "6.881373587019543"),
        (0.0001, "0.0001"),
        (1e-5, "1e-05"),
        (1.25e-7, "1.25e-07"),
        (-0.0, "-0"),
        (123456.5, "123456.5"),
        (1e6, "1e+06"),
        (-123456789.125, "-1.23456789125e+08"),
        (5e-324, "5e-324"),
        (1e300, "1e+300"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_printed_as_by_go(number: float, text: str) -> None:
    """Each text is what Go prints for the number by %v."""
    assert go_float(number) == text


def test_numbers_that_are_not_finite() -> None:
    """By %6.4f Go prints these as signed words of six places."""
    assert [go_fixed(number) for number in (math.inf, -math.inf, math.nan, 1.0)] == ["  +Inf", "  -Inf", "   NaN", "1.0000"]


def test_names_come_first() -> None:
    """A named node's line begins with its name."""
    lines = neuron("x1", "w1", "x2", "w2", "b").display().splitlines()
    assert "x1 | data 2.0000 | grad -1.5000" in lines
    assert "b | data 6.8814 | grad 0.5000" in lines


def test_shared_nodes_are_printed_once() -> None:
    """A node used twice has a number where it first stands, and is referred to after that; nothing is printed below a reference."""
    assert shared().display() == "\n".join(
        [
            "data 5.3333 | grad 0.0000 | prev { / [16 3] }",
            RULE,
            "data 16.0000 | grad 0.0000 | prev { * [4 4] }",
            "#1 a | data 3.0000 | grad 0.0000",
            RULE,
            "#2 | data 4.0000 | grad 0.0000 | prev { + [3 1] }",
            "see #2",
            RULE,
            "see #1",
            "data 1.0000 | grad 0.0000",
            RULE,
        ]
    )


def test_doubling_takes_lines_by_node_not_by_path() -> None:
    """A chain of 200 doublings has 2**200 paths and prints each of its nodes once."""
    value = Value(1.0)
    for _ in range(200):
        value = value + value
    lines = [line for line in value.display().splitlines() if line != RULE]
    assert len([line for line in lines if not line.startswith("see")]) == 201


def test_levels_limit_the_text() -> None:
    """The first levels of an expression 20,000 deep are printed alone, and a line says that there is more."""
    value = Value(0.0)
    for _ in range(20_000):
        value = value + 1.0
    lines = value.display(levels=2).splitlines()
    assert lines[0] == "data 20000.0000 | grad 0.0000 | prev { + [19999 1] }"
    assert lines[2:] == [
        "data 19999.0000 | grad 0.0000 | prev { + [19998 1] }",
        "data 1.0000 | grad 0.0000",
        RULE,
        "... (more levels below)",
    ]


def test_levels_beyond_the_last() -> None:
    """More levels than there are is all of them; less than one is refused."""
    assert neuron().display(levels=5) == neuron().display(levels=99) == GO_NEURON
    with pytest.raises(ValueError, match="levels must be at least 1, not 0"):
        neuron().display(levels=0)


def test_arrays_show_shape_and_some_data() -> None:
    """Arrays print on one line, with the middle left out where they are long."""
    value = (Value(np.arange(6.0).reshape(2, 3), "A") * 2.0).sum()
    value.backward()
    assert "A | shape (2, 3) | data [[0 1 2] [3 4 5]] | grad [[2 2 2] [2 2 2]]" in value.display().splitlines()
    assert Value(np.arange(1000.0)).display().splitlines()[0] == "shape (1000,) | data [0 1 … 998 999] | grad 0.0000"
    assert all(len(compact(np.full((9,) * rank, -1.2345e-200), 30)) <= 30 for rank in range(7))


def test_booleans_show_as_such() -> None:
    """A comparison's data is True or False."""
    assert (Value(1.0) < Value(2.0)).display().splitlines()[0] == "data True | grad 0.0000 | prev { < [1 2] }"


def test_symbolic_nodes_show_shapes() -> None:
    """Inputs, parameters and what depends on them show names and shapes, no data."""
    loss = logsumexp(input("x", shape=(2,)) + param("w", np.ones(2)))
    assert loss.display().splitlines() == [
        "shape () | prev { logsumexp [(2,)] }",
        RULE,
        "shape (2,) | prev { + [x w] }",
        RULE,
        "x | shape (2,)",
        "w | shape (2,)",
        RULE,
    ]


def test_dot_is_micrograds_picture() -> None:
    """A record for each value, a node for each op, from left to right."""
    a = Value(-2.0, "a")
    value = a * Value(3.0)
    value.backward()
    assert value.to_dot() == "\n".join(
        [
            "digraph {",
            "\tgraph [rankdir=LR]",
            '\tn0 [label="{ a | data -2.0000 | grad 3.0000 }" shape=record]',
            '\tn1 [label="{ data 3.0000 | grad -2.0000 }" shape=record]',
            '\tn2 [label="{ data -6.0000 | grad 1.0000 }" shape=record]',
            '\tn2op [label="*"]',
            "\tn2op -> n2",
            "\tn0 -> n2op",
            "\tn1 -> n2op",
            "}",
            "",
        ]
    )


def test_dot_escapes_names() -> None:
    """Names with characters that mean something to Graphviz stay what they are."""
    text = Value(1.0, 'a|b {"c"} <d> \\ e\nf').to_dot()
    assert 'a\\|b \\{\\"c\\"\\} \\<d\\> \\\\ e f' in text


def test_dot_of_something_deep() -> None:
    """DOT has no limit of depth or size."""
    value = Value(0.0)
    for _ in range(5_000):
        value = value + 1.0
    assert value.to_dot().count("shape=record") == 10_001


def drawn(svg: str) -> tuple[list[tuple[float, ...]], list[str]]:
    """All rectangles (x, y, width, height) and texts of a picture."""
    root = ElementTree.fromstring(svg)
    found = [element for element in root.iter() if element.tag.endswith("rect")]
    boxes = [tuple(float(box.attrib[key]) for key in ("x", "y", "width", "height")) for box in found]
    return boxes, [element.text or "" for element in root.iter() if element.tag.endswith("text")]


def apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two rectangles leave 4 units free between them, in one direction at least."""
    return any(a[k] + a[k + 2] + 4 <= b[k] or b[k] + b[k + 2] + 4 <= a[k] for k in (0, 1))


def test_svg_has_every_figure() -> None:
    """The picture says what micrograd's says: names, data and gradients with four digits, and ops."""
    boxes, texts = drawn(neuron("x1", "w1", "x2", "w2", "b").to_svg())
    assert len(boxes) == 10 + 5
    for text in ("x1", "data 2.0000", "grad -1.5000", "tanh", "data 0.7071", "grad 1.0000", "b"):
        assert text in texts
    assert (texts.count("*"), texts.count("+")) == (2, 2)


@pytest.mark.parametrize("rankdir", ["LR", "TB"])
@pytest.mark.parametrize("seed", range(6))
def test_nothing_overlaps(seed: int, rankdir: str) -> None:
    """In pictures of random expressions no two boxes touch, everything is inside, and lines begin and end at boxes."""
    dice = random.Random(seed)
    values = [Value(dice.uniform(-1, 1) * 10 ** dice.randrange(9), "n" * dice.randrange(9)) for _ in range(4)]
    for _ in range(40):
        values.append(dice.choice([Value.__add__, Value.__mul__, lambda a, _: exp(-a * a)])(dice.choice(values[-6:]), dice.choice(values)))
    svg = to_svg(values[-1], rankdir)  # type: ignore[arg-type]
    boxes, _ = drawn(svg)
    assert all(itertools.starmap(apart, itertools.combinations(boxes, 2)))
    width, height = map(float, re.findall(r'(?:width|height)="(\d+)"', svg)[:2])
    assert all(x >= 0 and y >= 0 and x + w <= width - 10 and y + h <= height - 10 for x, y, w, h in boxes)
    for path in re.findall(r'<path d="(M[^"v]*)"/>', svg):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
        assert on_a_side(numbers[-2:], boxes)


def on_a_side(point: list[float], boxes: list[tuple[float, ...]]) -> bool:
    """Whether a point lies on the left or upper side of a box."""
    x, y = point
    return any(
        (abs(x - left) < 0.2 and top - 0.2 <= y <= top + height + 0.2) or (abs(y - top) < 0.2 and left - 0.2 <= x <= left + width + 0.2)
        for left, top, width, height in boxes
    )


def test_svg_of_one_node() -> None:
    """A leaf alone is drawn as its box, full digits in its title."""
    svg = Value(0.1, "<a&b>").to_svg()
    boxes, texts = drawn(svg)
    assert (len(boxes), texts) == (1, ["<a&b>", "data 0.1000", "grad 0.0000"])
    assert "data 0.1\n" in svg


def test_svg_is_the_same_every_time() -> None:
    """The same expression gives the same picture, and notebooks show it."""
    assert shared().to_svg() == shared().to_svg() == shared()._repr_svg_()


def test_svg_has_a_limit() -> None:
    """What is too large to draw is refused with the ways out, at once; a notebook falls back to text."""
    value = Value(0.0)
    for _ in range(5_000):
        value = value + 1.0
    with pytest.raises(LimitError, match=r"at most 2,000 nodes.*display\(levels=10\).*to_dot\(\)") as raised:
        value.to_svg()
    assert raised.value.limit == "drawn_nodes"
    assert value._repr_svg_() is None


@pytest.mark.parametrize("draw", [to_dot, to_svg])
def test_unknown_directions_are_refused(draw: type) -> None:
    """A direction is LR or TB."""
    with pytest.raises(ValueError, match=r"rankdir is 'LR'.*not 'RL'"):
        draw(Value(1.0), "RL")
