"""The HTML page in a real browser: what one sees, clicks and searches, and what hostile names cannot do."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clew.model.flow import Flow
from clew.view import Options, render
from tests.golden.view import flows

pytestmark = pytest.mark.requires("chromium")

_CHROMIUM = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    from tests.support.machine import chromium

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=chromium(), args=list(_CHROMIUM))
        yield started
        started.close()


class Shown:
    """A flow's page, open in the browser, with everything that went wrong on it."""

    def __init__(self, browser: Any, folder: Path, flow: Flow, hash: str = "", script: bool = True) -> None:
        file = folder / "flow.html"
        file.write_text(render(flow, "html", Options(pick=flows.said, trace="start.clew")))
        self.address = f"file://{file}"
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(
            viewport={"width": 1280, "height": 720}, java_script_enabled=script, color_scheme="light"
        )
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("dialog", lambda dialog: self.faults.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(self.address + hash)

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)

    def panel(self) -> str:
        return str(self.page.inner_text("#panel"))


@pytest.fixture
def libvirt(browser: Any, tmp_path: Path) -> Iterator[Shown]:
    shown = Shown(browser, tmp_path, flows.libvirt())
    yield shown
    assert shown.faults == []
    assert shown.requests == [shown.address]
    shown.page.close()


def test_the_path_is_stepped_through_by_keys(libvirt: Shown) -> None:
    libvirt.page.keyboard.press("n")
    assert libvirt.panel().startswith("Hop 1\n")
    libvirt.page.keyboard.press("n")
    assert libvirt.panel().startswith("Hop 2\n")
    assert libvirt.page.url.endswith("#hop=2")
    libvirt.page.keyboard.press("p")
    assert libvirt.panel().startswith("Hop 1\n")
    libvirt.page.keyboard.press("Escape")
    assert not libvirt.page.is_visible("#panel")


def test_a_hop_s_panel_has_both_backtraces_and_the_command(libvirt: Shown) -> None:
    libvirt.page.keyboard.press("n")
    said = libvirt.panel()
    assert "clew hold hop:start.clew#1" in said.replace("'", "")
    assert "virNetClientSendWithReply" in said
    assert "virNetServerClientDispatchRead" in said
    libvirt.page.click("#panel .command button")
    assert libvirt.page.inner_text("#panel .command button") in ("copied", "press Ctrl+C")


def test_an_arrow_can_be_clicked(libvirt: Shown) -> None:
    place = libvirt.ask(
        "(() => { const c = clew.chart, [x1, y1, x2, y2] = c.ends(1);"
        " const box = c.canvas.getBoundingClientRect();"
        " return [box.x + (x1 + x2) / 2, box.y + (y1 + y2) / 2 + 26 - c.top]; })()"
    )
    libvirt.page.mouse.click(*place)
    assert libvirt.panel().startswith("Hop ")


def test_zoom_pan_and_fit(libvirt: Shown) -> None:
    first = libvirt.ask("[clew.chart.zoom, clew.chart.left]")
    libvirt.page.keyboard.press("w")
    libvirt.page.keyboard.press("d")
    assert libvirt.ask("clew.chart.zoom") > first[0]
    assert libvirt.ask("clew.chart.left") > first[1]
    libvirt.page.keyboard.press("f")
    assert libvirt.ask("[clew.chart.zoom, clew.chart.left]") == pytest.approx(first)


def test_search_marks_what_it_finds(libvirt: Shown) -> None:
    libvirt.page.keyboard.press("/")
    libvirt.page.keyboard.type("qemuProcessLaunch")
    found = libvirt.page.inner_text("#hits")
    assert re.fullmatch(r"[1-9]\d* hops?", found)
    libvirt.page.keyboard.press("Enter")
    assert "qemuProcessLaunch" in libvirt.panel()
    libvirt.page.fill("#search", "there is no such thing")
    assert libvirt.page.inner_text("#hits") == "0 hops"


def test_filters_leave_what_they_say(libvirt: Shown) -> None:
    libvirt.page.click("button[data-set='part=all']")
    everything = len(flows.libvirt().hops)
    assert libvirt.page.inner_text("#shown") == f"{everything} of {everything} hops"
    libvirt.page.select_option("#kind", "exec")
    assert libvirt.page.inner_text("#shown").startswith("1 of")


def test_the_causes_are_a_tree_for_the_keyboard(libvirt: Shown) -> None:
    libvirt.page.keyboard.press("c")
    assert libvirt.page.get_attribute("#tree", "role") == "tree"
    rows = libvirt.page.locator("#tree [role=treeitem]")
    assert rows.count() >= 3
    assert "on-path" in (libvirt.page.get_attribute("#tree .row >> nth=0", "class") or "")
    rows.first.focus()
    libvirt.page.keyboard.press("ArrowDown")
    libvirt.page.keyboard.press("Enter")
    assert libvirt.panel().startswith("Hop ")


def test_a_link_opens_its_hop(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, tmp_path, flows.libvirt(), hash="#hop=3")
    assert shown.panel().startswith("Hop 3\n")
    shown.page.close()


def test_without_a_script_the_path_is_a_table(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, tmp_path, flows.libvirt(), script=False)
    assert shown.page.locator("#plain tbody tr").count() == len(flows.libvirt().path)
    assert shown.page.is_visible("#plain")
    assert not shown.page.is_visible("main")
    shown.page.close()


def test_losses_are_a_banner(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, tmp_path, flows.mixed())
    assert "15 LOST" in shown.page.inner_text("[role=alert]")
    shown.page.close()


_MARKUP = (
    b"</script><script>alert(1)</script><img src=x onerror=alert(2)>",
    b"'\"><svg onload=alert(3)>",
    b"<!--<script>",
    b"]]>&lt;b&gt;\xff\xfe\x00\x1b[31m",
    "\u202e\u200f\u200b".encode(),
)


def hostile() -> Flow:
    """The nasty flow, with markup in every name."""
    flow = flows.nasty()
    hops = []
    for at, hop in enumerate(flow.hops):
        bad = _MARKUP[at % len(_MARKUP)]
        word = bad.decode("utf-8", "surrogateescape")
        frames = tuple(replace(f, function=word, file=word, module=bad) for f in hop.stack_from)
        hops.append(
            replace(
                hop,
                source=replace(hop.source, comm=bad, exe=b"/" + bad),
                argv=(bad,) * bool(hop.argv),
                reason=word,
                stack_from=frames,
            )
        )
    return replace(flow, hops=tuple(hops), root_argv=_MARKUP, notes=(*flow.notes, _MARKUP[0].decode()))


def test_hostile_names_run_nothing_and_ask_for_nothing(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, tmp_path, hostile())
    for hop in [hop.n for hop in hostile().hops]:
        shown.ask(f"location.hash = '#hop={hop}'")
        shown.page.keyboard.press("c")
    assert shown.faults == []
    assert shown.requests == [shown.address]
    assert shown.ask("document.querySelectorAll('img, svg, iframe').length") == 0
    assert shown.ask("document.querySelectorAll('script').length") == 2
    shown.page.close()


def test_the_policy_forbids_a_script_that_was_added(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, tmp_path, flows.libvirt())
    shown.ask(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.bad = 1'}))"
    )
    assert shown.ask("window.bad") is None
    assert any("Content Security Policy" in fault for fault in shown.faults)
    shown.page.close()


def test_a_thousand_hops_stay_below_a_megabyte(browser: Any, tmp_path: Path) -> None:
    flow = flows.libvirt()
    many = [
        replace(hop, n=at * len(flow.hops) + hop.n, t_ns=hop.t_ns + at * 10**7, on_path=False)
        for at in range(1000 // len(flow.hops) + 1)
        for hop in flow.hops
    ]
    shown = Shown(browser, tmp_path, replace(flow, hops=tuple(many), path=(), reached=()))
    assert len(many) >= 1000
    assert (tmp_path / "flow.html").stat().st_size < 1 << 20
    assert shown.page.inner_text("#shown").endswith(f"of {len(many):,} hops")
    assert shown.faults == []
    shown.page.close()


@pytest.mark.requires("tsc")
def test_the_scripts_are_typed() -> None:
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run(["tsc", "-p", root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_data_reads_back() -> None:
    page = render(flows.nasty(), "html", Options(trace="T"))
    (data,) = re.findall(r'<script type="application/json" id="flow">(.*?)</script>', page)
    assert len(json.loads(data)["hops"]["n"]) == len(flows.nasty().hops)
