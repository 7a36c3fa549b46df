"""The graph for Graphviz."""

from __future__ import annotations

import re

import pytest

from clew.model.flow import Flow
from clew.view import render
from tests.golden.view import flows

_STRING = r'"(?:[^"\\]|\\.)*"'
_LINE = re.compile(
    rf"digraph clew {{|}}|  label={_STRING}|  node \[shape=box, style=rounded\]"
    rf"|  a\d+ \[label={_STRING}\]|  a\d+ -> a\d+ \[label={_STRING}, style=(?:bold|dashed|dotted|solid)\]"
)


@pytest.mark.parametrize("flow", [flows.libvirt(), flows.mixed(), flows.nasty()])
def test_there_are_only_lines_of_ours(flow: Flow) -> None:
    assert [line for line in render(flow, "dot").splitlines() if not _LINE.fullmatch(line)] == []


def test_hops_are_edges_with_their_numbers() -> None:
    shown = render(flows.libvirt(), "dot")
    assert (
        '  a0 -> a1 [label="1. unix socket /run/libvirt/libvirt-sock, 56 bytes at 20.512 ms", style=bold]'
        in shown
    )
    assert "style=dashed" in shown
