"""Shows a flow: pure functions from ``clew.model.flow.Flow`` to text, JSON, SVG, Mermaid and DOT."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from clew.view.formats import FORMATS, Format, render
    from clew.view.options import Options, Pick, stream_ascii, stream_color, stream_width

__all__ = ["FORMATS", "Format", "Options", "Pick", "render", "stream_ascii", "stream_color", "stream_width"]
_IN_FORMATS = ("FORMATS", "Format", "render")


def __getattr__(name: str) -> object:
    # `clew --help` and error messages need clew.view.escape only; importing the rest took half of their time.
    if name not in __all__:
        raise AttributeError(f"module 'clew.view' has no attribute {name!r}")
    return getattr(import_module("clew.view.formats" if name in _IN_FORMATS else "clew.view.options"), name)
