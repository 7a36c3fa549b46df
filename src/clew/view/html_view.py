"""The flow as one HTML page to look at: a chart and a tree of causes, without any request.

The page is complete in itself and asks for nothing: its policy (Content-Security-Policy) forbids every source
but its own script and style, named by their hashes.  What traced processes said stands in a block of JSON,
which no browser executes, and is put on the page as text only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from clew.model.flow import Flow, Hop
from clew.view import words
from clew.view.escape import visible, xml
from clew.view.html_payload import payload
from clew.view.options import Options

_MODULES = ("data.js", "scale.js", "lanes.js", "paint.js", "chart.js", "tree.js", "panel.js", "main.js")
_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_HELP = (
    ("W S", "zoom"), ("A D", "move"), ("F", "all of it"), ("N P", "next, previous hop"),
    ("C", "time or causes"),
    ("/", "search"), ("Esc", "close"),
)  # fmt: skip


def render(flow: Flow, options: Options) -> str:
    """The page.  ``options.source`` gives lines of source, if any."""
    script, style = _script(), _text("style.css")
    data = json.dumps(payload(flow, options), ensure_ascii=True, separators=(",", ":"))
    # Inside a script element only "</script" and "<!--" mean something: no "<" is left.
    data = data.replace("<", "\\u003c")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{xml(words.title(flow))} - clew</title>\n<style>{style}</style></head>\n"
        f"<body>{_header(flow)}{_controls()}{_plain(flow)}\n"
        f'<script type="application/json" id="flow">{data}</script>\n'
        f'<script type="module">{script}</script></body></html>\n'
    )


def prepare() -> None:
    """Read the page's own parts, while they can be read: whoever shows a flow may give up the right to."""
    _script()
    _text("style.css")


@cache
def _text(name: str) -> str:
    return files("clew.view").joinpath("html", name).read_text(encoding="utf-8")


def _script() -> str:
    """The modules as one: a page from a file may import none."""
    return "".join(_EXPORT.sub("", _IMPORT.sub("", _text(name))) for name in _MODULES)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _header(flow: Flow) -> str:
    lost = f'<p class="alarm" role="alert">{xml(words.losses(flow))}</p>' if words.any_lost(flow) else ""
    notes = "".join(f"<li>{xml(note)}</li>" for note in flow.notes)
    said = "".join(f"{one}. " for one in (words.outcome(flow), words.ended(flow), words.losses(flow)) if one)
    return (
        f"{lost}<header><h1>{xml(words.title(flow))}</h1><p>{xml(said.rstrip())}</p>"
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + "</header>"
    )


def _controls() -> str:
    def group(*buttons: tuple[str, str]) -> str:
        inner = "".join(f'<button type="button" data-set="{to}">{name}</button>' for to, name in buttons)
        return f'<span class="group">{inner}</span>'

    keys = "".join(f"<p><kbd>{key}</kbd> {what}</p>" for key, what in _HELP)
    return (
        '<nav id="filters" aria-label="what is shown">'
        + group(("view=time", "Time"), ("view=causes", "Causes"))
        + group(("part=path", "Path"), ("part=all", "Everything"))
        + group(("replies=true", "Replies"), ("squeeze=true", "Squeeze idle time"))
        + '<select id="kind" aria-label="kind of hop"></select>'
        + '<select id="process" aria-label="process"></select>'
        + '<input id="search" type="search" placeholder="search (/)" aria-label="search hops">'
        + '<span id="hits" role="status"></span><span id="shown"></span></nav>'
        + '<main><div id="views"><canvas id="chart" tabindex="0" role="img" '
        + 'aria-label="tasks and the hops between them over time; the causes view holds the same as text">'
        + '</canvas><div id="tree" aria-label="causes"></div></div>'
        + '<section id="panel" aria-label="the chosen hop" hidden></section></main>'
        + f'<div id="help" hidden>{keys}</div>'
    )


def _plain(flow: Flow) -> str:
    """The path (else the first hops) as a table: for print, and where no script runs."""
    hops = words.hops_of(flow, flow.path) or list(flow.hops[:100])
    rows = "".join(f"<tr>{''.join(f'<td>{xml(cell)}</td>' for cell in _cells(hop))}</tr>" for hop in hops)
    heads = "".join(f"<th>{name}</th>" for name in ("", "from", "to", "by", "in", "ms"))
    more = len(flow.hops) - len(hops)
    rest = f"<p>{more:,} hops more are not in this table.</p>" if more else ""
    return f'<div id="plain"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{rest}</div>'


def _cells(hop: Hop) -> Iterable[str]:
    source, target = hop.source, hop.target
    by = words.by_what(hop)
    if hop.exe or hop.argv:
        by = f"exec {visible(hop.exe)} {words.arguments(hop.argv, hop.argv_truncated)}"
    frame = next((words.place(f) for f in hop.stack_from if f.function), "")
    return (
        str(hop.n),
        f"{words.who(source)} {words.ids(source)}",
        f"{words.who(target)} {words.ids(target)}",
        by,
        frame,
        words.milliseconds(hop.t_ns),
    )
