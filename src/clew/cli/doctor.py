"""``clew doctor``: what this machine permits, which engine that makes, what mends each lack."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

    from clew.cli.doctor_checks import Group, Verdict
    from clew.kernel.features import Check

_HELP = "say what this machine permits, and what mends each lack"
_DESCRIPTION = """\
Tries everything clew relies on, changes nothing, and says which engine `--engine auto` picks and why.
A lack that keeps an engine from working is marked `no`, any other one `-`; beneath it is what mends it.
Exit status: 0 if an engine works, 1 if none does."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``doctor`` to the command line."""
    parser = subparsers.add_parser(
        "doctor",
        help=_HELP,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examine the machine and print the report; 0 if an engine works, else 1."""
    from clew.cli.doctor_checks import examine, verdict

    groups = examine()
    picked = verdict(groups)
    if args.json:
        json.dump(as_json(groups, picked), sys.stdout, indent=1)
        print()
    else:
        _print_report(groups, picked)
    return 0 if picked.engine else 1


def as_json(groups: Sequence[Group], picked: Verdict) -> dict[str, Any]:
    """The report for programs; keys are only ever added."""
    return {
        "engine": picked.engine or None,
        "reason": picked.reason,
        "checks": [
            {
                "group": group.title,
                "engine": group.engine or None,
                "name": check.name,
                "ok": check.ok,
                "detail": check.detail,
                "remedy": check.remedy,
            }
            for group in groups
            for check in group.checks
        ],
    }


def _print_report(groups: Sequence[Group], picked: Verdict) -> None:
    from rich.console import Console
    from rich.text import Text

    class Report(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 (rich calls this in its handler; its own exit status, 1, means "no engine")

    console = Report(highlight=False)
    names = max(len(check.name) for group in groups for check in group.checks)
    for group in groups:
        console.print(Text(group.title, style="bold"))
        for check in group.checks:
            for line in _check_lines(check, bool(group.engine), names, console.width):
                console.print(line)
        console.print()
    console.print(_verdict_line(picked))


def _check_lines(check: Check, needed: bool, names: int, width: int) -> list[Text]:
    """A check as lines; names fill ``names`` columns; ``needed``: an engine depends on it."""
    from rich.text import Text

    from clew.view.escape import visible
    from clew.view.lines import hang, wrap

    mark, style = ("ok", "green") if check.ok else ("no", "bold red") if needed else ("-", "yellow")
    label = Text.assemble("  ", (mark.ljust(4), style), check.name.ljust(names + 2))
    room = max(width - label.cell_len, 20)
    lines = wrap([(word, "") for word in visible(check.detail).split()], room, cut=False)
    if check.remedy and not check.ok:
        words = [(word, "cyan") for word in visible(check.remedy).split()]
        lines += hang(Text("→ ", style="cyan"), wrap(words, room - 2, cut=False))
    return hang(label, lines)


def _verdict_line(picked: Verdict) -> Text:
    from rich.text import Text

    from clew.view.escape import visible

    if picked.engine:
        return Text.assemble(
            "--engine auto picks ", (picked.engine, "bold green"), f" ({visible(picked.reason)})"
        )
    return Text.assemble(("No engine works here", "bold red"), f" ({visible(picked.reason)})")
