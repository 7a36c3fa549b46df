"""``clew ps``: the held tasks, below the processes they come from."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from clew.cli import holding
from clew.hold.hold import Hold

if TYPE_CHECKING:
    from clew.hold.leftovers import Leftover


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``ps`` to the command line."""
    parser = subparsers.add_parser("ps", help="the held tasks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON array, for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print who is held; 0 even if nobody is."""
    from clew.hold.client import HoldClient, NoSession
    from clew.hold.leftovers import leftovers

    left = leftovers()
    try:
        with HoldClient() as client:
            holds = client.holds()
    except NoSession:
        if not (args.json or left):
            raise
        holds = []
    if args.json:
        json.dump([*map(holding.hold_json, holds)], sys.stdout)
        print()
        print("".join(f"{line}\n" for line in _leftover_lines(left)), end="", file=sys.stderr)
    else:
        print("\n".join([*_tree(holds), *_leftover_lines(left)]) or "Nothing is held now.")
    return 0


def _leftover_lines(left: list[Leftover]) -> list[str]:
    """Who stands still without a session, and how to end that."""
    from clew.view.escape import visible

    lines = []
    for one in left:
        by = f"in a debugger (process {one.debugger})" if one.debugger else "stopped"
        lines.append(f"{visible(one.comm)} {one.task.pid}  {by}, left by a session that was killed")
    return [*lines, "    clew release --all lets them go"] if lines else []


def _tree(holds: list[Hold]) -> list[str]:
    """The held tasks under their ancestors; what an ancestor is follows its name."""
    from clew.kernel import procfs
    from clew.view.escape import visible

    lines: list[str] = []
    shown: set[int] = set()
    for hold in holds:
        chain = _ancestors(hold.pid)
        for depth, pid in enumerate(chain):
            if pid in shown or pid == hold.pid:
                continue
            shown.add(pid)
            found = procfs.stat(pid)
            lines.append(f"{'  ' * depth}{visible(found.comm) if found else '?'} {pid}")
        lines += _hold_lines(hold, "  " * max(len(chain) - 1, 0))
    return lines


def _ancestors(pid: int) -> list[int]:
    """From the oldest below init to the process itself."""
    from clew.kernel import procfs

    chain = [pid]
    while (found := procfs.stat(chain[0])) is not None and found.parent > 1 and found.parent not in chain:
        chain.insert(0, found.parent)
    return chain


def _hold_lines(hold: Hold, indent: str) -> list[str]:
    from clew.view.escape import visible

    state = f"in a debugger (process {hold.debugger})" if hold.debugger else hold.scope
    times = f"held {holding.span(holding.held_s(hold))}, lease {holding.span(hold.lease_s)}"
    return [
        f"{indent}{hold.id}  {holding.task(hold)}  {state}  {times}",
        f"{indent}    {visible(hold.rule)}",
        f"{indent}    {holding.EXACTNESS.get(hold.exact, hold.exact)}: {holding.place(hold.at)}",
    ]
