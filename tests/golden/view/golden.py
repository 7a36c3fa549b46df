"""Which golden files there are, and what each of them holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clew.model.flow import Flow
from clew.view import FORMATS, Options, render
from tests.golden.view import flows

_FLOWS: dict[str, Callable[[], Flow]] = {"libvirt": flows.libvirt, "mixed": flows.mixed, "nasty": flows.nasty}
# The page's script would be in each; tests/integration/test_html_page.py looks at it in a browser.
_SHOWN = [form for form in FORMATS.values() if form.name != "html"]
_BY_SUFFIX = {form.suffix: form.name for form in _SHOWN}

GOLDEN = tuple(
    Path(__file__).with_name(name + form.suffix) for name in _FLOWS for form in _SHOWN
)  # fmt: skip


def shown(path: Path) -> str:
    """What the view of ``path`` gives now."""
    options = Options(pick=flows.said, trace="start.clew")
    return render(_FLOWS[path.stem](), _BY_SUFFIX[path.suffix], options)
