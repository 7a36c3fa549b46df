"""The look of the chart: colours for light and dark, a stroke for each kind of arrow."""

from __future__ import annotations

from collections.abc import Mapping

_LIGHT = {
    "ground": "#ffffff", "ink": "#1f2328", "pale": "#656d76", "faint": "#afb8c1", "hair": "#e3e7eb",
    "frame": "#f6f8fa", "edge": "#d0d7de", "path": "#0a5dc2", "soft": "#ddecff", "plain": "#eaeef2",
    "exec": "#fff0db", "brand": "#b45309", "alarm": "#cf222e", "on": "#ffffff",
}  # fmt: skip
_DARK = {
    "ground": "#0d1117", "ink": "#e6edf3", "pale": "#9aa4af", "faint": "#57606a", "hair": "#21262d",
    "frame": "#151b23", "edge": "#30363d", "path": "#58a6ff", "soft": "#12305a", "plain": "#262c34",
    "exec": "#3a2a10", "brand": "#e3a04a", "alarm": "#ff7b72", "on": "#0d1117",
}  # fmt: skip

_SANS = "system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif"
_MONO = "ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace"

_SHAPES = f"""
text{{font-family:{_SANS};font-size:12px}}
.small{{font-size:10.5px}}.mono{{font-family:{_MONO};font-size:10.5px}}.big{{font-size:19px;font-weight:600}}
.strong{{font-weight:600}}.mid{{text-anchor:middle}}.end{{text-anchor:end}}
.time{{font-size:11px;font-variant-numeric:tabular-nums}}
.arrow line{{stroke-width:1.4}}.path line{{stroke-width:2.6}}.reply line{{stroke-dasharray:6 4}}
.ambiguous line{{stroke-dasharray:1.5 4;stroke-linecap:round}}
.life{{stroke-width:1;stroke-dasharray:2 4}}.frame,.bar,.box{{stroke-width:1}}
.box.path,.box.exec{{stroke-width:1.6}}
"""

_COLORS = """
.ground{{fill:{ground}}}text{{fill:{ink}}}.pale{{fill:{pale}}}.alarm{{fill:{alarm}}}.brand{{fill:{brand}}}
.frame{{fill:{frame};stroke:{edge}}}.life{{stroke:{faint}}}.guide{{stroke:{hair}}}
.bar{{fill:{plain};stroke:{faint}}}.bar.path{{fill:{soft};stroke:{path}}}
.bar.exec{{fill:{exec};stroke:{brand}}}
.box{{fill:{plain};stroke:{faint}}}.box.path{{fill:{soft};stroke:{path}}}
.box.exec{{fill:{exec};stroke:{brand}}}
.arrow line{{stroke:{pale}}}.reply line{{stroke:{faint}}}.path line{{stroke:{path}}}
.head{{fill:{pale}}}.head.reply{{fill:{faint}}}.head.path{{fill:{path}}}
.disc{{fill:{ground};stroke:{pale}}}.path .disc{{fill:{path};stroke:{path}}}.path text.number{{fill:{on}}}
.reply text.label{{fill:{pale}}}.path text.label{{fill:{path}}}
.over{{paint-order:stroke;stroke:{frame};stroke-width:4px;stroke-linejoin:round}}
"""


def style() -> str:
    """The style sheet; dark where the reader's system asks for it."""
    return f"{_SHAPES}{_colors(_LIGHT)}@media (prefers-color-scheme:dark){{{_colors(_DARK)}}}"


def _colors(palette: Mapping[str, str]) -> str:
    return _COLORS.format(**palette)
