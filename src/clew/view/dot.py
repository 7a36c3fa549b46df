"""The flow as a graph for Graphviz: a node per activation, an edge per hop, a cluster per process."""

from __future__ import annotations

from collections.abc import Iterator

from clew.model.flow import Flow, Hop, HopKind, Tier
from clew.model.task import Party
from clew.view import words
from clew.view.escape import dot
from clew.view.lines import shorten
from clew.view.options import Options
from clew.view.select import drawn


def render(flow: Flow, options: Options) -> str:
    """The path and its replies, or the whole flow; a large one is better drawn as SVG."""
    remarks = "\\n".join(map(dot, (words.title(flow), words.outcome(flow), words.losses(flow), *flow.notes)))
    head = ["digraph clew {", f'  label="{remarks}"', "  node [shape=box, style=rounded]"]
    hops = drawn(flow, options.whole)
    return "\n".join([*head, *_nodes(flow, hops), *map(_edge, hops), "}"]) + "\n"


def _nodes(flow: Flow, hops: tuple[Hop, ...]) -> Iterator[str]:
    labels = {activation.id: activation.label for activation in flow.activations}
    ends: dict[int, Party] = {flow.activations[0].id: flow.root} if flow.activations else {}
    for hop in hops:
        ends.setdefault(hop.source_activation, hop.source)
        ends.setdefault(hop.target_activation, hop.target)
    for number, party in ends.items():
        label = dot(f"{shorten(words.who(party), 40)} {words.ids(party)}")
        yield f'  a{number} [label="{label}\\n{dot(shorten(labels.get(number, ""), 60))}"]'


def _edge(hop: Hop) -> str:
    label = words.by_what(hop) if hop.kind is not HopKind.EXEC else f"exec {words.program(hop.exe)}"
    drawn_as = "dashed" if hop.reply else "bold" if hop.on_path else "solid"
    style = "dotted" if hop.tier is Tier.AMBIGUOUS else drawn_as
    said = dot(shorten(f"{hop.n}. {label} at {words.milliseconds(hop.t_ns)} ms", 80))
    return f'  a{hop.source_activation} -> a{hop.target_activation} [label="{said}", style={style}]'
