"""The sequence diagram: every hop a line, and no line that a traced name wrote."""

from __future__ import annotations

import re

import pytest

from clew.model.flow import Flow
from clew.view import Options, render
from tests.golden.view import flows

_ITEM = r"(?:[A-Za-z0-9 ._/,=()+-]|#\d+;)*"
_LINES = re.compile(
    rf"    (?:participant t\d+ as {_ITEM}|t\d+-?-(?:>>|\))t\d+: \d+\. {_ITEM}"
    rf"|Note (?:right of|over) t\d+(?:,t\d+)?: {_ITEM})"
)


@pytest.mark.parametrize("flow", [flows.libvirt(), flows.mixed(), flows.nasty(), flows.big(60)])
@pytest.mark.parametrize("whole", [False, True])
def test_there_are_only_lines_of_ours(flow: Flow, whole: bool) -> None:
    first, *rest = render(flow, "mermaid", Options(whole=whole)).splitlines()
    assert first == "sequenceDiagram"
    assert [line for line in rest if not _LINES.fullmatch(line)] == []


def test_hops_have_their_numbers() -> None:
    shown = render(flows.libvirt(), "mermaid")
    assert "    t1->>t2: 1. unix socket /run/libvirt/libvirt-sock, 56 bytes\n" in shown
    assert "    t4->>t4: 6. exec qemu-system-x86_64 -name guest=tiny,debug-threads=on" in shown
    assert "    t2-->>t1: 8. unix socket /run/libvirt/libvirt-sock, 48 bytes\n" in shown


def test_ambiguous_hops_look_different_and_say_why() -> None:
    shown = render(flows.mixed(), "mermaid")
    assert "    t4--)t6: 7. futex wake\n    Note right of t6: ambiguous#58; the order of the queue\n" in shown


def test_losses_and_notes_are_told() -> None:
    shown = render(flows.mixed(), "mermaid")
    assert "15 LOST#58; read 12, futex 3" in shown and "No backtrace could be taken of pool 22." in shown


def test_what_is_too_large_for_mermaid_says_so() -> None:
    assert render(flows.big(3000), "mermaid").startswith("%% ")
    assert render(flows.libvirt(), "mermaid").startswith("sequenceDiagram\n")
