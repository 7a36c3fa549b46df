"""Shows a flow: pure functions from ``clew.model.flow.Flow`` to text, JSON, SVG, Mermaid and DOT."""

from clew.view.formats import FORMATS, Format, render
from clew.view.options import Options, Pick, stream_ascii, stream_color, stream_width

__all__ = ["FORMATS", "Format", "Options", "Pick", "render", "stream_ascii", "stream_color", "stream_width"]
