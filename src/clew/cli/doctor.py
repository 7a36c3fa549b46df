"""``clew doctor``: what this machine permits, which engine that makes, what mends each lack."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

    from clew.cli.doctor_checks import Group, Verdict
    from clew.kernel.features import Check

_HELP = "say what this machine permits, and what mends each lack"
_DESCRIPTION = """\
Tries everything clew relies on, changes nothing, and says which engine `--engine auto` picks and why.
A lack that keeps an engine from working is marked `no`, any other one `-`; beneath it is what mends it.
The bpf engine has parts that the kernel takes or refuses one by one: without one, the others work.
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
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="with the kernel's last words on a refusal"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examine the machine and print the report; 0 if an engine works, else 1."""
    from clew.cli.doctor_checks import examine, verdict
    from clew.engine.bpf.parts import HOLDS, RECORDING

    groups = examine()
    picked = {job: verdict(groups, job) for job in (RECORDING.name, HOLDS.name)}
    if args.json:
        json.dump(as_json(groups, *picked.values()), sys.stdout, indent=1)
        print()
    else:
        _print_report(groups, picked, args.verbose)
    return 0 if any(each.engine for each in picked.values()) else 1


def as_json(groups: Sequence[Group], recording: Verdict, holds: Verdict) -> dict[str, Any]:
    """The report for programs; keys are only ever added."""
    return {
        "engine": recording.engine or None,
        "reason": recording.reason,
        "holds": {"engine": holds.engine or None, "reason": holds.reason},
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


def _print_report(groups: Sequence[Group], picked: Mapping[str, Verdict], verbose: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    from clew.view.log import last_words

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
            for word in last_words(check.log) if verbose else ():
                console.print(Text(f"        {word}"))
        console.print()
    for said in _verdict_lines(picked):
        console.print(said)


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


def _verdict_lines(picked: Mapping[str, Verdict]) -> list[Text]:
    """One for each job, or one for all if the same engine does them."""
    if len({each.engine for each in picked.values()}) == 1:
        return [_verdict_line(next(iter(picked.values())), "")]
    return [_verdict_line(each, f" for {job}") for job, each in picked.items()]


def _verdict_line(picked: Verdict, job: str) -> Text:
    from rich.text import Text

    from clew.view.escape import visible

    if picked.engine:
        return Text.assemble(
            "--engine auto picks ", (picked.engine, "bold green"), f"{job} ({visible(picked.reason)})"
        )
    return Text.assemble((f"No engine works here{job}", "bold red"), f" ({visible(picked.reason)})")
