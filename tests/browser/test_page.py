"""The page for people, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sumgrad
import sumgrad_engine as sg
from PIL import Image
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_tests import support, training
from sumgrad_tests.requests import upload

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

EVIL = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
CONTRASTS = """
const rgba = (color) => {
  const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
  return [r, g, b, a];
};
const over = ([r, g, b, a], under) => [r * a + under[0] * (1 - a), g * a + under[1] * (1 - a), b * a + under[2] * (1 - a), 1];
const back = (element) => {
  if (!element) return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0, 1] : [255, 255, 255, 1];
  const own = rgba(getComputedStyle(element).backgroundColor);
  return own[3] === 1 ? own : over(own, back(element.parentElement));
};
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const poor = [];
for (const element of document.querySelectorAll("body *")) {
  const said = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
  if (!said || element.closest("svg") || !element.getClientRects().length) continue;
  const under = back(element);
  const [a, b] = [light(over(rgba(getComputedStyle(element).color), under)), light(under)];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) poor.push(`${element.className || element.tagName} ${ratio.toFixed(2)}: ${element.textContent.trim().slice(0, 30)}`);
}
return poor;
"""


@pytest.fixture(scope="module")
def busy(server: Any) -> Any:
    """The server, with graphs, and requests good and bad; some with names that want to be markup."""
    x, y, w, b = sg.input("x", shape=(2,)), sg.input("y"), sg.param("w", np.zeros(2)), sg.param("b", 0.0)
    logistic = sg.Objective(sg.softplus(-y * (x @ w + b)), penalty=1e-3 * sg.sum(w * w), metrics={"right": (x @ w + b) * y > 0})
    data = {"x": np.ones((4000, 2)), "y": np.ones(4000)}
    name = server.client.register(logistic.graph)
    server.client.register(sg.Objective(sg.input(EVIL) * sg.param("p" * 200, 1.0)).graph)
    uploading = server.client.channel.stream_unary(
        "/sumgrad.v1.GradientService/UploadDataset", wire.UploadDatasetRequest.SerializeToString, wire.UploadDatasetResponse.FromString
    )
    for stored in ("train", "d" * 110, EVIL):
        uploading(iter(upload(stored, data, 1 << 16)), timeout=60)
    for _ in range(30):
        server.client.gradient(name, logistic.params, data)
    server.client.evaluate(name, logistic.params, data)
    with sumgrad.connect(server.address) as service:
        with training.join(training.create(service, "r" * 110, 2, members=1), EVIL) as member:
            member.train(progress=False)
        training.create(service, EVIL, 10)
    support.refused(lambda: server.client.gradient(EVIL, {}, {}))
    support.refused(lambda: server.client.gradient(name, logistic.params, {"x": np.ones((10, 3)), "y": np.ones(10)}))
    support.refused(lambda: ask(server, "r" * 128, graph_id="x" * 80))
    return server


def ask(server: Any, request_id: str, graph_id: str = "nothing") -> None:
    """A request that is refused, of this id."""
    server.client.unary("Gradient", wire.GradientRequest(request_id=request_id, graph_id=graph_id), wire.GradientResponse)


def test_the_page_is_there(browser: Any, busy: Any, screenshot: Callable[[Any, str], Path]) -> None:
    """It loads without a complaint, shows every part, says that it is live; and a picture of it is no empty sheet."""
    browser.open(busy)
    support.wait_until(lambda: browser.text("#connection") == "live", "the script")
    support.wait_until(lambda: "Gradient" in browser.text("#recent"), "the requests")
    titles = browser.js("return [...document.querySelectorAll('h1, h2')].map((title) => title.innerText.split('\\n')[0])")
    assert [title.split(" ")[0] for title in titles] == [
        "Serving",
        "Throughput",
        "Workers",
        "Training",
        "Recent",
        "Recent",
        "Datasets",
        "Graphs",
    ]
    assert browser.js("return document.querySelectorAll('#workers li').length") == 2
    assert "INVALID_ARGUMENT" in browser.text("#failed")
    assert browser.js("return document.querySelectorAll('#throughput path.line').length") == 3
    assert browser.js("return document.querySelectorAll('#runs path.line').length") >= 1
    assert browser.complaints() == []
    with Image.open(screenshot(browser, "page")) as picture:
        assert picture.size == (1200, 900)
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50


def test_it_lives(browser: Any, busy: Any) -> None:
    """Requests that come while somebody looks appear, and the charts move, without a reload."""
    browser.open(busy)
    browser.js("window.same = true")
    before = browser.js("return document.querySelector('#throughput path.line').getAttribute('d')")
    support.refused(lambda: ask(busy, "while-you-look"))
    support.wait_until(lambda: "while-you-look" in browser.text("#recent"), "the request")
    assert "while-you-look" in browser.text("#failed")
    objective = support.slow_objective(1)
    name = busy.client.register(objective.graph)
    support.wait_until(lambda: browser.js("return !!document.querySelector(`a[href='/graphs/${arguments[0]}']`)", name), "the graph")

    def moved() -> bool:
        busy.client.gradient(name, objective.params, support.slow_samples(1))
        return bool(browser.js("return document.querySelector('#throughput path.line').getAttribute('d')") != before)

    support.wait_until(moved, "the chart")
    assert browser.js("return window.same") is True
    assert browser.complaints() == []


def test_a_run_lives(browser: Any, busy: Any, screenshot: Callable[[Any, str], Path]) -> None:
    """A run that is made while somebody looks appears; its curve, its step and its members' contributions grow with it, until it is over."""
    browser.open(busy)
    browser.js("window.same = true")
    with sumgrad.connect(busy.address) as service:
        run = training.create(service, "seen live", 6, members=1)
        support.wait_until(lambda: "seen live" in browser.text("#runs"), "the run")
        assert "Nobody has joined." in browser.text("#runs .run")
        with training.join(run, "ada") as member:
            support.wait_until(lambda: "working" in browser.text("#runs .members"), "the member")
            for _ in range(3):
                member.step()
            support.wait_until(lambda: "step 3 of 6" in browser.text("#runs .run"), "three steps")
            assert browser.js("return document.querySelector('#runs path.line').getAttribute('d').split(',').length") == 4
            screenshot(browser, "runs")
            member.train(progress=False)
    support.wait_until(lambda: "step 6 of 6" in browser.text("#runs"), "the end")
    assert browser.js("return window.same") is True
    assert browser.complaints() == []


def test_what_is_in_use_stays(browser: Any, busy: Any) -> None:
    """A section that has the keyboard's focus is not replaced under the reader's hands, while others are kept fresh."""
    browser.open(busy)
    browser.js("const link = document.querySelector('#graphs a'); link.focus(); link.dataset.mine = 'yes'")
    busy.client.register(support.slow_objective(5).graph)
    support.refused(lambda: ask(busy, "in-use"))
    support.wait_until(lambda: "in-use" in browser.text("#recent"), "the others")
    assert browser.js("return document.activeElement.dataset.mine") == "yes"


def test_a_graph_is_a_picture(browser: Any, busy: Any, screenshot: Callable[[Any, str], Path]) -> None:
    """The link in the table leads to a page with an SVG that has a size, and the way back."""
    browser.open(busy)
    browser.js("[...document.querySelectorAll('#graphs tr')].find((row) => row.innerText.includes('x (2,)')).querySelector('a').click()")
    support.wait_until(lambda: bool(browser.js("return !!document.querySelector('.picture svg')")), "the picture")
    box = browser.js("const box = document.querySelector('.picture svg').getBoundingClientRect(); return [box.width, box.height]")
    assert min(box) > 50
    texts = browser.js("return [...document.querySelectorAll('.picture svg text')].map((text) => text.textContent)")
    assert {"x", "w", "loss", "penalty", "metric:right"} <= set(texts)
    assert browser.complaints() == []
    screenshot(browser, "graph")
    browser.js("document.querySelector('header a.push').click()")
    support.wait_until(lambda: browser.text("#connection") == "live", "the page")


def test_markup_of_clients_is_text(browser: Any, busy: Any) -> None:
    """Names, ids and messages that are markup are shown as they are: nothing of them runs or becomes an element."""
    support.refused(lambda: ask(busy, EVIL))
    browser.open(busy)
    support.wait_until(lambda: EVIL in browser.text("#recent"), "the request")
    assert EVIL in browser.text("#datasets")
    assert EVIL[:40] in browser.text("#graphs")
    assert browser.text("#runs").count(EVIL) == 2
    assert browser.js("return [...document.images].length") == 1
    assert browser.js("return [...document.scripts].map((script) => script.getAttribute('src'))") == ["/static/page.js"]
    assert "sumgrad" in browser.driver.title
    browser.js("[...document.querySelectorAll('#graphs tr')].find((row) => row.innerText.includes('<img')).querySelector('a').click()")
    support.wait_until(lambda: bool(browser.js("return !!document.querySelector('.picture svg')")), "the picture")
    assert browser.js("return document.querySelectorAll('script, .picture img, .picture script').length") == 0
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [360, 600, 768, 1200])
def test_it_fits(browser: Any, busy: Any, screenshot: Callable[[Any, str], Path], width: int) -> None:
    """At a phone's width and at others nothing reaches out of the window, however long the names are; wide pictures scroll in their own frame."""
    browser.window(width, 740)
    browser.open(busy)
    support.wait_until(lambda: "r" * 128 in browser.text("#failed"), "the long name")
    assert browser.js(OVERFLOW) <= 0
    browser.js("document.querySelector('details').open = true")
    assert browser.js(OVERFLOW) <= 0
    screenshot(browser, f"page-{width}")
    browser.js("[...document.querySelectorAll('#graphs tr')].find((row) => row.innerText.includes('x (2,)')).querySelector('a').click()")
    support.wait_until(lambda: bool(browser.js("return !!document.querySelector('.picture svg')")), "the picture")
    assert browser.js(OVERFLOW) <= 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read(browser: Any, busy: Any, screenshot: Callable[[Any, str], Path], dark: bool) -> None:
    """All text stands out from what is behind it by 4.5 to 1 at least (WCAG AA), on light and on dark pages."""
    browser.window(1200, 900, dark=dark)
    browser.open(busy)
    support.wait_until(lambda: browser.text("#connection") == "live", "the script")
    browser.js("document.querySelector('details').open = true")
    assert browser.js(CONTRASTS) == []
    background = browser.js("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(18, 22, 24)") is dark
    screenshot(browser, f"page-{'dark' if dark else 'light'}")
    browser.js("document.querySelector('h2').style.color = 'rgb(127, 127, 127)'")
    assert len(browser.js(CONTRASTS)) == 1, "the measure itself"


def test_it_works_without_scripts(browser: Any, busy: Any) -> None:
    """With JavaScript off the page has everything, and asks the browser to come again."""
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(busy)
        said = browser.driver.page_source
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert 'http-equiv="refresh"' in said
    for part in ("Serving", "Recent requests", "samples a second", "/graphs/"):
        assert part in said


def test_it_says_when_the_server_is_gone(browser: Any) -> None:
    """When nobody answers any more, the page says so and stays as it was."""
    with support.running("--workers", "1", "--metrics-address", "127.0.0.1:0") as server:
        browser.open(server)
        support.wait_until(lambda: browser.text("#connection") == "live", "the script")
        server.terminate()
    support.wait_until(lambda: browser.text("#connection").startswith("no answer"), "the notice")
    assert "Workers" in browser.text("#workers")
