"""The requests a server got, for a terminal: a line each, and the command that shows it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from clew.model.requests import Requests, ServedRequest
from clew.view import words
from clew.view.escape import shell, visible
from clew.view.lines import page

_HEAD = ("", "at ms", "took ms", "from", "by", "tasks", "hops", "evidence", "shown by")
_RIGHT = (0, 1, 2, 5, 6)  # columns of numbers


def requests_text(found: Requests, trace: str, quiet: bool, color: bool, ascii_only: bool) -> str:
    """A table; unless ``quiet``, with what there is to know and a command to paste."""
    rows = [_HEAD, *map(_row, found.requests)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    lines = [
        Text(f"{words.count(len(found.requests), 'request')} to {visible(found.server)}", "bold"),
        Text(),
    ]
    lines += [_line(row, widths, "dim" if row is _HEAD else "") for row in rows]
    return page(
        [*([] if quiet else lines[:2]), *lines[2:], *([] if quiet else _foot(found, trace))],
        color,
        ascii_only,
    )


def _row(one: ServedRequest) -> tuple[str, ...]:
    took = "no answer" if one.duration_ns is None else words.milliseconds(one.duration_ns)
    client = f"{words.who(one.client)} {words.ids(one.client)}" if one.client else visible(one.far) or "?"
    server = f"{words.who(one.server)} {words.ids(one.server)}"
    counts = (str(one.tasks), str(one.hops))
    return (str(one.n), words.milliseconds(one.t_ns), took, client, server, *counts, _evidence(one),
            f"--from {shell(one.origin)}")  # fmt: skip


def _evidence(one: ServedRequest) -> str:
    """``observed``, or how many hops are less than that."""
    doubtful = [f"{n} {tier}" for tier, n in one.tiers.items() if n and tier != "observed"]
    return ", ".join(doubtful) or "observed"


def _line(row: tuple[str, ...], widths: list[int], style: str) -> Text:
    cells = [cell.rjust(width) if at in _RIGHT else cell.ljust(width)
             for at, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
    return Text("  ".join(cells).rstrip(), style)


def _foot(found: Requests, trace: str) -> Iterator[Text]:
    yield Text()
    if found.lost:
        yield Text(f"{sum(found.lost.values()):,} LOST: {words.listing(found.lost)}", "bold red")
    for note in found.notes:
        yield Text(f"note     {visible(note)}", "yellow")
    if found.requests:
        command = words.show_command(trace, "--from", found.requests[-1].origin)
        yield Text(f"next     {command}", "bold cyan")
