"""The HTML page with many hops: how large it is, how soon it is there, how many frames a second it pans with.

    python -m bench html

The bars: 100,000 hops painted within 2 s and panned at 50 frames a second; 1,000 hops within 1 MB.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.record_pairs import title
from clew.model.flow import Activation, Flow, Hop
from clew.model.task import Party, TaskId
from clew.view import Options, render
from tests.golden.view import flows

_PAINT = """(times) => {
  const started = performance.now();
  for (let i = 0; i < times; i++) clew.chart.paintNow();
  return (performance.now() - started) / times;
}"""


def main() -> None:
    """A line for each size."""
    title("the HTML page")
    from playwright.sync_api import sync_playwright

    from tests.support.machine import chromium

    print(f"{'hops':>8} {'KiB':>8} {'made s':>8} {'shown s':>8} {'ms/frame':>9}   zoomed in")
    with sync_playwright() as play, tempfile.TemporaryDirectory(prefix="clew-bench-") as folder:
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        for hops in (20, 1_000, 10_000, 100_000):
            _measure(browser, Path(folder), hops)
        browser.close()


def _measure(browser: Any, folder: Path, hops: int) -> None:
    flow = many(hops)
    began = time.monotonic()
    text = render(flow, "html", Options(pick=flows.said, trace="T"))
    made = time.monotonic() - began
    file = folder / "page.html"
    file.write_text(text)
    page = browser.new_page(viewport={"width": 1400, "height": 800})
    began = time.monotonic()
    page.goto(f"file://{file}")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shown = time.monotonic() - began
    page.evaluate(
        "(clew.state.part = 'all', document.querySelector(\"button[data-set='part=all']\").click())"
    )
    far = page.evaluate(_PAINT, 20)
    page.evaluate("clew.chart.zoomBy(200)")
    near = page.evaluate(_PAINT, 20)
    print(f"{hops:>8,} {len(text) >> 10:>8,} {made:>8.2f} {shown:>8.2f} {far:>9.1f} {near:>9.1f}", flush=True)
    page.close()


def many(count: int) -> Flow:
    """A flow of ``count`` hops: rounds of libvirt's, each between tasks of its own number."""
    base = flows.libvirt()
    rounds = range(-(-count // len(base.hops)))
    hops = [_hop(hop, at, len(base.hops), len(base.activations)) for at in rounds for hop in base.hops]
    acts = [_act(act, at, len(base.hops), len(base.activations)) for at in rounds for act in base.activations]
    return replace(base, hops=tuple(hops[:count]), activations=tuple(acts))


def _hop(hop: Hop, at: int, hops: int, acts: int) -> Hop:
    return replace(
        hop,
        n=hop.n + at * hops,
        t_ns=hop.t_ns + at * 30_000_000,
        arrived_ns=hop.arrived_ns + at * 30_000_000,
        source=_party(hop.source, at),
        target=_party(hop.target, at),
        source_activation=hop.source_activation + at * acts,
        target_activation=hop.target_activation + at * acts,
        on_path=hop.on_path and at == 0,
    )


def _act(act: Activation, at: int, hops: int, acts: int) -> Activation:
    return replace(
        act,
        id=act.id + at * acts,
        task=_party(act.task, at),
        start_ns=act.start_ns + at * 30_000_000,
        end_ns=act.end_ns + at * 30_000_000,
        triggers=tuple(n + at * hops for n in act.triggers),
    )


def _party(party: Party, at: int) -> Party:
    """The daemon's tasks stay; each round has a client and children of its own, a hundred at most."""
    if party.exe.endswith(b"libvirtd") and party.pid == 812:
        return party
    number = party.pid + 10_000 * (1 + at % 100)
    return replace(party, id=TaskId(number, number, party.id.start_ns + at % 100))
