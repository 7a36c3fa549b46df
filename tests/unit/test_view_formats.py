"""The views by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from clew.errors import UsageError
from clew.view import FORMATS, render
from tests.golden.view import flows


def test_text_is_what_one_gets_unasked() -> None:
    assert render(flows.libvirt()) == render(flows.libvirt(), "text")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_renders_and_ends_its_last_line(name: str) -> None:
    shown = render(flows.nasty(), name)
    assert shown.endswith("\n") and not shown.endswith("\n\n")
    shown.encode("utf-8")


@pytest.mark.parametrize("name", FORMATS)
def test_no_view_leaves_a_loss_or_a_note_out(name: str) -> None:
    shown = render(flows.mixed(), name)
    assert "futex" in shown and "No backtrace could be taken of pool 22." in shown
    assert "LOST" in shown or '"lost": {"read": 12, "futex": 3}' in shown


def test_an_unknown_format_is_answered_with_a_guess() -> None:
    with pytest.raises(UsageError) as raised:
        render(flows.libvirt(), "mermade")
    assert raised.value.cause == "There is no format 'mermade'." and "mermaid" in raised.value.remedy
    with pytest.raises(UsageError, match="text, json, svg"):
        render(flows.libvirt(), "?")


def test_listing_the_formats_imports_none_of_them() -> None:
    script = "import clew.view, sys; print([m for m in sys.modules if m.split('.')[0] == 'rich'])"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
