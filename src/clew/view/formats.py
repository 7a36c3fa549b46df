"""The views by name: what ``clew show --format`` offers."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

from clew.errors import UsageError

if TYPE_CHECKING:
    from clew.model.flow import Flow
    from clew.view.options import Options

    View = Callable[[Flow, Options], str]


class Format(NamedTuple):
    """A way to show a flow.  ``module`` is imported at the first use, so that ``--help`` stays quick."""

    name: str
    summary: str
    suffix: str
    module: str

    def render(self, flow: Flow, options: Options) -> str:
        """The flow in this format, ending in a newline."""
        return cast("View", import_module(f"clew.view.{self.module}").render)(flow, options)


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format("text", "for the terminal: the path hop by hop", ".txt", "text"),
        Format("json", "for programs: stable, see docs/json.md", ".json", "json_view"),
        Format("svg", "a chart: a lane per task, time downwards", ".svg", "svg"),
        Format(
            "html", "a page to look at: chart, causes, search; one file, no network", ".html", "html_view"
        ),
        Format("mermaid", "a sequence diagram for Markdown pages", ".mmd", "mermaid"),
        Format("dot", "a graph for Graphviz", ".dot", "dot"),
    )
}


def render(flow: Flow, format: str = "text", options: Options | None = None) -> str:
    """``flow`` in the format of that name.  Raises UsageError for a name that is not in FORMATS."""
    from clew.view.options import Options

    return named(format).render(flow, options or Options())


def named(name: str) -> Format:
    """The format of that name.  Raises UsageError, with a guess at what was meant."""
    if name in FORMATS:
        return FORMATS[name]
    from difflib import get_close_matches

    near = get_close_matches(name, FORMATS, 1)
    guess = f"Did you mean {near[0]}?" if near else f"There are {', '.join(FORMATS)}."
    raise UsageError(f"There is no format {name!r}.", guess)
