"""The chart as a file: well-formed, harmless, complete, and with no text upon another."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from clew.model.flow import Flow, HopKind
from clew.view import Options, render
from clew.view.measure import width
from tests.golden.view import flows

_SVG = "{http://www.w3.org/2000/svg}"
_FLOWS = {
    "libvirt": flows.libvirt(),
    "mixed": flows.mixed(),
    "nasty": flows.nasty(),
    "chain": flows.chain(20),
    "big": flows.big(40),
    "dense": flows.big(400),
    "empty": Flow(flows.VIRSH, (b"true",), (), ()),
}
_SIZES = {"big": 19.0, "small": 10.5, "mono": 10.5, "time": 11.0}


def chart(flow: Flow, **options: bool) -> Element:
    return ElementTree.fromstring(render(flow, "svg", replace(Options(pick=flows.said), **options)))  # type: ignore[arg-type]


def texts(root: Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{_SVG}text")]


def numbers(root: Element) -> list[int]:
    return [int(e.text or "") for e in root.iter(f"{_SVG}text") if "number" in (e.get("class") or "").split()]


@pytest.mark.parametrize("name", _FLOWS)
@pytest.mark.parametrize("whole", [False, True])
def test_it_holds_shapes_and_words_and_nothing_that_acts(name: str, whole: bool) -> None:
    root = chart(_FLOWS[name], whole=whole)
    allowed = {"svg", "desc", "style", "title", "rect", "g", "line", "polygon", "text"}
    assert {element.tag.removeprefix(_SVG) for element in root.iter()} <= allowed
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not [name for name in attributes if name.startswith("on") or "href" in name]
    (style,) = root.iter(f"{_SVG}style")
    assert "url(" not in (style.text or "") and "@import" not in (style.text or "")


def test_path_and_replies_are_drawn_with_their_numbers() -> None:
    assert sorted(numbers(chart(flows.libvirt()))) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_what_is_not_of_the_path_is_left_to_whole() -> None:
    flow = flows.libvirt()
    other = replace(flow.hops[0], n=9, target_activation=9, on_path=False, t_ns=flow.hops[-1].t_ns + 1)
    flow = replace(flow, hops=(*flow.hops, replace(other, arrived_ns=other.t_ns + 1)))
    assert 9 not in numbers(chart(flow))
    assert 9 in numbers(chart(flow, whole=True))


def test_long_flows_are_drawn_in_full() -> None:
    assert sorted(numbers(chart(flows.big(3000)))) == list(range(1, 3001))
    assert sorted(numbers(chart(flows.chain(3000)))) == list(range(1, 3001))


def test_runs_are_folded_unless_verbose() -> None:
    assert "… 39 more rounds like these 2, to 87" in texts(chart(flows.mixed()))
    assert len(numbers(chart(flows.mixed(), verbose=True))) == 89


def test_lanes_boxes_and_times_are_named() -> None:
    said = texts(chart(flows.libvirt()))
    for expected in (
        "virsh start tiny", "libvirtd → qemu-system-x86_64", "rpc-worker  815", "exec qemu-system-x86_64",
        "qemuProcessStart", "futex wake", "118.402", "+493.9", "/run/libvirt/libvirt-sock",
    ):  # fmt: skip
        assert expected in said


def test_arrows_tell_both_backtraces_when_pointed_at() -> None:
    tips = [element.text or "" for element in chart(flows.libvirt()).iter(f"{_SVG}title")]
    (fork,) = (tip for tip in tips if tip.startswith("3. "))
    assert "libvirtd/rpc-worker 812/815 → libvirtd/rpc-worker 4130" in fork
    assert "from:\n  #0 __GI__Fork" in fork and "qemuProcessLaunch" in fork and "\nto:\n" in fork


def test_it_can_be_read_aloud() -> None:
    root = chart(flows.libvirt())
    assert root.get("role") == "img" and root.get("aria-label") == "What virsh start tiny caused"
    (told,) = root.iter(f"{_SVG}desc")
    assert "1. virsh to libvirtd by unix socket /run/libvirt/libvirt-sock, 56 bytes" in (told.text or "")


def test_losses_and_notes_are_in_the_picture() -> None:
    said = " ".join(texts(chart(flows.mixed())))
    assert "15 LOST: read 12, futex 3" in said and "No backtrace could be taken of pool 22." in said


def test_ambiguous_hops_are_dotted_and_explained() -> None:
    root = chart(flows.mixed())
    dotted = [e for e in root.iter(f"{_SVG}g") if "ambiguous" in (e.get("class") or "")]
    dotted = [e for e in dotted if e.findall(f"{_SVG}title")]
    assert [numbers(element) for element in dotted] == [[7]]
    assert any(said.startswith("ambiguous: may belong") for said in texts(root))


def test_the_legend_explains_only_what_is_there() -> None:
    assert not any(said.startswith("ambiguous") for said in texts(chart(flows.libvirt())))


def test_libvirt_fits_on_a_screen() -> None:
    root = chart(flows.libvirt())
    assert float(root.get("width", "0")) <= 1200 and float(root.get("height", "0")) <= 900


@dataclass(frozen=True)
class Area:
    """Where a text is drawn, by the same estimate as the layout's and with its full height."""

    text: str
    left: float
    right: float
    top: float
    bottom: float

    def meets(self, other: Area) -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not apart and self.top < other.bottom and other.top < self.bottom


def areas(root: Element) -> list[Area]:
    """All texts outside of the legend, whose groups are moved."""
    moved = {text for g in root.iter(f"{_SVG}g") if g.get("transform") for text in g.iter(f"{_SVG}text")}
    return [_area(e) for e in root.iter(f"{_SVG}text") if e not in moved]


def _area(element: Element) -> Area:
    css = (element.get("class") or "").split()
    size = next((_SIZES[name] for name in css if name in _SIZES), 12.0)
    wide = width(element.text or "", size, "mono" in css, "strong" in css or "big" in css) * 0.97
    x, y = float(element.get("x", "0")), float(element.get("y", "0"))
    left = x - wide / 2 if "mid" in css else x - wide if "end" in css else x
    return Area(element.text or "", left, left + wide, y - size * 0.75, y + size * 0.2)


@pytest.mark.parametrize("name", _FLOWS)
@pytest.mark.parametrize("verbose", [False, True])
def test_no_text_is_upon_another(name: str, verbose: bool) -> None:
    found = sorted(areas(chart(_FLOWS[name], verbose=verbose)), key=lambda area: area.top)
    assert found
    for number, area in enumerate(found):
        near = itertools.takewhile(lambda other: other.top < area.bottom, found[number + 1 :])  # noqa: B023
        assert not [(area.text, other.text) for other in near if area.meets(other)]


@pytest.mark.parametrize("name", _FLOWS)
def test_nothing_is_drawn_outside(name: str) -> None:
    root = chart(_FLOWS[name])
    wide, high = float(root.get("width", "0")), float(root.get("height", "0"))
    for area in areas(root):
        assert area.left >= 0 and area.right <= wide and area.top >= 0 and area.bottom <= high, area
    for shape in root.iter(f"{_SVG}rect"):
        if re.fullmatch(r"[\d.]+", shape.get("width", "")):
            assert float(shape.get("x", "0")) + float(shape.get("width", "0")) <= wide


def test_an_argument_is_broken_after_a_comma() -> None:
    flow = flows.libvirt()
    hops = tuple(
        replace(hop, argv=(b"qemu", b"-name", b"guest=a-guest-of-ours,debug-threads=on", b"-S"))
        if hop.kind is HopKind.EXEC
        else hop
        for hop in flow.hops
    )
    assert "-name guest=a-guest-of-ours," in texts(chart(replace(flow, hops=hops)))
