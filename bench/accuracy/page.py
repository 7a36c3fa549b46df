"""``docs/accuracy.md``, written from what was measured."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.accuracy.measure import Design
from bench.accuracy.score import Score

Row = tuple[Design, int, list[Score]]
PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"

_HEAD = """# How often it is right

Written by `./x bench accuracy`; do not edit it.

Servers of {designs} designs carry the number of each request in memory, and say for which request they do
what: in a file that all of them have mapped, so that no system call, and no recording, shows it. Clients make
requests, 1 to 64 at a time. Everything below is about the same recordings ({effects:,} effects of
{requests:,} requests, on Linux {release}).

An **effect** is what a request was made for: a program that was run, a letter to a store, an answer, what a
subscriber got. The path to it is **exact** if it begins at the client that asked, every hop of it was made
for that request, and each begins where the one before arrived. It is **wrong** if it begins at another
client, **ambiguous** if it says itself that it may be, or that one call took in this request together with
others, and **lost** if there is none.

The **others** are rules that tools which follow requests through the kernel go by, drawn from the same
events: what a thread does belongs to the *last message* it took in; the same, and a child goes on with what
its *clone parent* did; what a task does belongs to what last *woke* it up.

"""
_PATHS = """
## Whole paths

In percent of the effects. Where two numbers stand in a cell they are exact / wrong.

| design | in flight | exact | wrong | ambiguous | lost | {others} |
|---|---|---|---|---|---|---|---|---|---|
"""
_EDGES = """
## Edges

Connections, messages, births and execs, each with each request it is held to be for: how many of those are
right (precision) / how many that are true are found (recall), in percent, over all levels.

| design | clew | {others} |
|---|---|---|---|---|---|
"""
_OTHERS = "`--strict` | last message | + clone parents | wake-ups"


def write(rows: Sequence[Row]) -> None:
    """Write the page."""
    ours = [found[0] for _, _, found in rows]
    designs = list(dict.fromkeys(design for design, _, _ in rows))
    head = _HEAD.format(
        designs=len(designs),
        effects=sum(one.effects for one in ours),
        requests=sum(one.requests for one in ours),
        release=".".join(os.uname().release.split(".")[:2]),
    )
    legend = "\n".join(f"- `{design.name}`: {design.what}" for design in designs)
    parts = [head, *_bars(rows), _PATHS.format(others=_OTHERS), *_paths(rows)]
    parts += [_EDGES.format(others=_OTHERS), *_edges(designs, rows)]
    parts += ["\n## The designs\n\n", legend, "\n"]
    PAGE.write_text("".join(parts))


def _bars(rows: Sequence[Row]) -> Iterator[str]:
    """What was aimed at, and where it is missed."""
    yield "| bar | here |\n|---|---|\n"
    yield f"| wrong, at most 0.1 % | {_summed(rows, 0, 'wrong')} |\n"
    yield f"| wrong with `--strict`: none | {_summed(rows, 1, 'wrong')} |\n"
    told = [row for row in rows if row[0].told]
    where = "where wake-ups, bytes or descriptors tell"
    yield f"| exact, {where}: at least 99 % | {_summed(told, 0, 'exact')} |\n"
    beaten = [row for row in rows if all(row[2][0].exact >= other.exact for other in row[2][2:])]
    yield f"| no rule of others more often exact | in {len(beaten)} of {len(rows)} rows |\n"
    wrong = {design.name for design, _, found in rows if found[0].wrong or found[1].wrong}
    inexact = {design.name for design, _, found in told if found[0].exact < 0.99 * found[0].effects}
    untold = [f"`{design.name}`" for design in dict.fromkeys(d for d, _, _ in rows) if not design.told]
    yield f"\nNothing tells for certain in {', '.join(untold)}: there only order does, or nothing.\n"
    others = {row[0].name for row in rows if row not in beaten}
    faults = ("Wrong paths are", wrong), ("Less than 99 % exact are", inexact), ("Others are ahead", others)
    for what, names in faults:
        if names:
            yield f"{what} in {', '.join(f'`{name}`' for name in sorted(names))}.\n"


def _summed(rows: Iterable[Row], rule: int, what: str) -> str:
    scores = [found[rule] for _, _, found in rows]
    part, whole = sum(getattr(one, what) for one in scores), sum(one.effects for one in scores)
    return f"{part:,} of {whole:,} ({_percent(part, whole)} %)"


def _percent(part: int, whole: int) -> str:
    """Rounded, but never to all or none where it is not."""
    if part in (0, whole):
        return "100" if part and whole else "0"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.1f}"


def _paths(rows: Sequence[Row]) -> Iterator[str]:
    for design, in_flight, (clew, *others) in rows:
        cells = [_percent(n, clew.effects) for n in (clew.exact, clew.wrong, clew.ambiguous, clew.lost)]
        cells += [f"{_percent(o.exact, o.effects)} / {_percent(o.wrong, o.effects)}" for o in others]
        yield f"| `{design.name}` | {in_flight} | {' | '.join(cells)} |\n"


def _edges(designs: Sequence[Design], rows: Sequence[Row]) -> Iterator[str]:
    for design in designs:
        mine = [found for one, _, found in rows if one == design]
        cells = []
        for scores in zip(*mine, strict=True):
            told, right = sum(one.told for one in scores), sum(one.right for one in scores)
            cells.append(f"{_percent(right, told)} / {_percent(right, sum(one.true for one in scores))}")
        yield f"| `{design.name}` | {' | '.join(cells)} |\n"
