"""The flow for a terminal: the numbered path, or every hop, then what there is to know and to do next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.text import Text

from clew.model.flow import Extent, Flow, Hop, Reached
from clew.view import words
from clew.view.escape import visible
from clew.view.fold import Run, by_names, fold
from clew.view.lines import hang, page, wrap
from clew.view.options import Options
from clew.view.text_hop import Sheet, in_full, in_short

_WIDEST = 110  # a time further right than this is no longer read with its hop
_RUNS = (160, 40)  # of a long flow: so many at its beginning, so many at its end
_LABEL = 9
_MARKS = {"*": "on the path", "←": "a reply", "·": "leads no further"}


def render(flow: Flow, options: Options) -> str:
    """Lines for ``options.width`` columns (never fewer than 40)."""
    width = max(min(options.width, _WIDEST), 40) - (4 if options.ascii else 0)
    digits = len(str(max((hop.n for hop in flow.hops), default=1)))
    sheet = Sheet(options, width, max(digits, 2) + 3, {a.id: a for a in flow.activations})
    lines = [] if options.quiet and flow.path else [*_head(flow, width), Text()]
    whole = options.whole or not flow.path
    lines += _flow(flow, sheet) if whole else _path(flow, sheet)
    return page([*lines, *_foot(flow, options, width, whole)], options.color, options.ascii)


def _head(flow: Flow, width: int) -> Iterator[Text]:
    yield from wrap([(word, "bold") for word in words.title(flow).split(" ")], width)
    style = "green" if flow.path or (flow.until and flow.reached) else "bold yellow" if flow.until else ""
    yield from wrap([(word, style) for word in words.outcome(flow).split(" ")], width)


def _path(flow: Flow, sheet: Sheet) -> Iterator[Text]:
    for hop in words.hops_of(flow, flow.path):
        yield from in_full(sheet, hop)
        yield Text()


def _flow(flow: Flow, sheet: Sheet) -> Iterator[Text]:
    if not flow.hops:
        nothing = "Nothing left the task: it spoke to no other, started none and woke none."
        yield from wrap([(word, "dim") for word in nothing.split()], sheet.width)
    runs = [Run((hop,)) for hop in flow.hops] if sheet.options.verbose else list(fold(flow.hops, by_names))
    first, last = (len(runs), 0) if sheet.options.verbose or len(runs) <= sum(_RUNS) else _RUNS
    going = {hop.source_activation for hop in flow.hops}
    for run in runs[:first]:
        yield from _run(run, sheet, going)
    if hidden := [hop for run in runs[first : len(runs) - last] for hop in (*run.shown, *run.more)]:
        left_out = f"… {words.count(len(hidden), 'hop')} between, to #{hidden[-1].n} (-v shows them)"
        yield from _aside(sheet, left_out, "bold")
    for run in runs[len(runs) - last :] if last else ():
        yield from _run(run, sheet, going)
    yield Text()
    used = {_mark(hop, going) for run in runs for hop in run.shown}
    if key := [f"{mark} {meaning}" for mark, meaning in _MARKS.items() if mark in used]:
        yield from wrap([(entry + "  " * (entry != key[-1]), "dim") for entry in key], sheet.width)
        yield Text()


def _run(run: Run, sheet: Sheet, going: set[int]) -> Iterator[Text]:
    for hop in run.shown:
        mark = _mark(hop, going)
        yield from in_full(sheet, hop, mark) if sheet.options.verbose else in_short(sheet, hop, mark)
    if run.more:
        alike = "like it" if len(run.shown) == 1 else f"rounds like these {len(run.shown)}"
        carried = sum(hop.bytes or 0 for hop in run.more)
        size = f", {words.count(carried, 'byte')}" if carried else ""
        until = f"to #{run.more[-1].n}{size}, {words.milliseconds(run.more[-1].t_ns)} ms"
        yield from _aside(sheet, f"… {run.repeats:,} more {alike}, {until}", "dim")


def _aside(sheet: Sheet, text: str, style: str) -> list[Text]:
    return hang(Text(" " * sheet.indent), wrap([(word, style) for word in text.split()], sheet.room))


def _mark(hop: Hop, going: set[int]) -> str:
    if hop.on_path:
        return "*"
    return "←" if hop.reply else "" if hop.target_activation in going else "·"


def _foot(flow: Flow, options: Options, width: int, whole: bool) -> Iterator[Text]:
    lost = words.any_lost(flow)
    if not options.quiet:
        for reached in _reached(flow):
            yield from _entry("reached", reached, width)
        if ended := words.ended(flow):
            yield from _entry("exit", ended, width, "" if flow.exit_status == 0 else "yellow")
        if not whole:
            yield from _entry("flow", _rest(flow), width)
    if lost or not options.quiet:
        yield from _entry("trace", words.losses(flow), width, "bold red" if lost else "")
    if options.verbose:
        yield from _entry("", words.listing(flow.recorded), width, "dim")
    for note in flow.notes:
        yield from _entry("note", visible(note), width, "yellow")
    if not options.quiet:
        for label, (command, purpose) in zip(("next", ""), _next(flow, options), strict=False):
            yield from _entry(label, command, width, "bold cyan", purpose)


def _entry(label: str, text: str, width: int, style: str = "", purpose: str = "") -> Iterable[Text]:
    body = [(word, style) for word in text.split(" ")] + [(word, "dim") for word in purpose.split()]
    return hang(Text(f"{label:<{_LABEL}}", "dim"), wrap(body, width - _LABEL, cut=False))


def _reached(flow: Flow) -> Iterator[str]:
    for reached in flow.reached[:10]:
        yield _one_reached(reached)
    if len(flow.reached) > 10:
        yield f"and {len(flow.reached) - 10:,} more"


def _one_reached(reached: Reached) -> str:
    named = " ".join(filter(None, (visible(reached.event), visible(reached.what))))
    what = f"{named} {visible(reached.exe)} by {words.ids(reached.task)}"
    if reached.event in ("signal", "exit"):
        what = f"{named} of {words.who(reached.task)} {words.ids(reached.task)}"
    hop = f" (hop {reached.hop})" if reached.hop else ""
    return f"{what} at {words.milliseconds(reached.t_ns)} ms{hop}"


def _rest(flow: Flow) -> str:
    on_path = set(flow.path)
    off = [hop for hop in flow.hops if hop.n not in on_path]
    size = flow.total or Extent(len(flow.hops), len(words.tasks(flow.hops)), sum(hop.reply for hop in off))
    among = f"{words.count(size.hops, 'hop')} between {words.count(size.tasks, 'task')}"
    are = "a reply" if size.replies == 1 else "replies"
    return f"{among}; {size.hops - len(on_path):,} off the path, {size.replies:,} of them {are}"


def _next(flow: Flow, options: Options) -> Iterator[tuple[str, str]]:
    if not options.trace or not flow.hops:
        return
    last = (words.hops_of(flow, flow.path[-1:]) or flow.hops[-1:])[0]
    yield words.hold_command(options.trace, last, flow.origin), "to stop there on the next run"
    origin = ("--from", flow.origin) if flow.origin else ()
    until = ("--until", flow.until) if flow.until else ()
    yield words.show_command(options.trace, *origin, *until, "--format", "svg"), "to draw it"
