"""The flow as a Mermaid sequence diagram, for Markdown pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from clew.model.flow import Flow, Hop, HopKind, Tier
from clew.model.task import Party, TaskId
from clew.view import words
from clew.view.escape import mermaid
from clew.view.fold import Run, by_tasks, fold
from clew.view.lines import begin, shorten
from clew.view.options import Options
from clew.view.select import drawn

_LABEL = 60
_MAX_TEXT = 50_000  # Mermaid's default maxTextSize; beyond it nothing is drawn


def render(flow: Flow, options: Options) -> str:
    """The path and its replies, or the whole flow; runs of alike hops are folded unless ``verbose``."""
    hops = drawn(flow, options.whole)
    names = _names(flow.root, hops)
    runs = [Run((hop,)) for hop in hops] if options.verbose else fold(hops, by_tasks)
    body = [f"    participant {name} as {_title(party)}" for name, party in names.values()]
    for run in runs:
        body += [f"    {line}" for hop in run.shown for line in _hop(hop, names)]
        if run.more:
            alike = f"{run.repeats} more like the last {len(run.shown)}, to {run.more[-1].n}"
            body.append(f"    Note over {_ends(run.shown, names)}: {alike}")
    body += [f"    Note over {next(iter(names.values()))[0]}: {line}" for line in _remarks(flow)]
    text = "\n".join(["sequenceDiagram", *body]) + "\n"
    large = f"%% {len(text)} characters: raise Mermaid's maxTextSize to draw this\n"
    return large + text if len(text) > _MAX_TEXT else text


def _names(root: Party, hops: Sequence[Hop]) -> dict[TaskId, tuple[str, Party]]:
    """A name of our own for each task, in order of appearance; as it was called at first."""
    names: dict[TaskId, tuple[str, Party]] = {}
    for party in (root, *(party for hop in hops for party in (hop.source, hop.target))):
        names.setdefault(party.id, (f"t{len(names) + 1}", party))
    return names


def _title(party: Party) -> str:
    return mermaid(f"{shorten(words.who(party), 32)} {words.ids(party)}")


def _hop(hop: Hop, names: Mapping[TaskId, tuple[str, Party]]) -> Iterator[str]:
    source, target = names[hop.source.id][0], names[hop.target.id][0]
    yield f"{source}{_arrow(hop)}{target}: {hop.n}. {mermaid(_label(hop))}"
    for caveat in words.caveats(hop):
        yield f"Note right of {target}: {mermaid(shorten(caveat, _LABEL))}"


def _label(hop: Hop) -> str:
    if hop.kind is HopKind.EXEC:
        program = words.program(hop.exe or hop.target.exe)
        return begin(f"exec {program} {words.arguments(hop.argv, hop.argv_truncated)}", _LABEL)
    return shorten(words.by_what(hop), _LABEL)


def _arrow(hop: Hop) -> str:
    """Full for the path and what it asks, dashed for replies, without a head's weight where ambiguous."""
    line = "--" if hop.reply or hop.tier is Tier.AMBIGUOUS else "-"
    return f"{line})" if hop.tier is Tier.AMBIGUOUS else f"{line}>>"


def _ends(hops: Sequence[Hop], names: Mapping[TaskId, tuple[str, Party]]) -> str:
    """The two participants a note spans; Mermaid takes one name for one."""
    ends = list(dict.fromkeys(names[party.id][0] for hop in hops for party in (hop.source, hop.target)))
    return ",".join((ends[0], ends[-1]) if len(ends) > 1 else ends)


def _remarks(flow: Flow) -> Iterator[str]:
    for remark in filter(None, (words.outcome(flow), words.losses(flow), *flow.notes)):
        yield mermaid(remark)
