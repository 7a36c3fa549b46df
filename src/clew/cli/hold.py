"""``clew hold``: stop tasks where rules say, before they do anything, and give them to a debugger."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from clew.cli import holding
from clew.engine import ENGINES
from clew.errors import UsageError

if TYPE_CHECKING:
    from clew.hold.reach import Reach
    from clew.model.rules.rule import Rule

_EPILOG = """examples:
  clew hold 'exec:qemu-system-*'                      every new qemu, at its first instruction
  clew hold 'exec:*qemu-system-x86_64,argv=*guest=tiny*'
  clew hold call:qemuProcessStart                     the thread that calls it; the rest of libvirtd runs on
  clew hold 'fork:libvirtd' --lease 30m               its children, before they return from clone
  clew hold 'exec:worker,tree=cmd' -- ./server        below the command only

`clew ps` shows what is held; `clew gdb H1` opens gdb on it; `clew release H1` lets it run.
The language of rules: docs/rules.md; all about holds: docs/hold.md
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``hold`` to the command line."""
    parser = subparsers.add_parser(
        "hold",
        help="stop tasks where a rule says, before they do anything",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rules", nargs="*", metavar="RULE", help="a rule, or an exclusion (!exec:GLOB)")
    parser.add_argument("--file", "-f", metavar="FILE", help="a rule file (TOML)")
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument("--thread", dest="scope", action="store_const", const="thread", default="auto",
                       help="only the thread that hit (default for call, at, syscall, signal)")  # fmt: skip
    scope.add_argument("--process", dest="scope", action="store_const", const="process",
                       help="hold all of its process (default for the others)")  # fmt: skip
    parser.add_argument("--lease", default="10m", metavar="TIME", help="let go after this long (10m)")
    parser.add_argument("--max-held", type=int, default=64, metavar="N", help="at most N at once (64)")
    parser.add_argument("-p", "--pid", type=int, action="append", default=[], metavar="PID",
                        help="only this process and what it starts (repeatable)")  # fmt: skip
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="how tasks are stopped")
    parser.add_argument("--json", action="store_true", help="a line of JSON per hold and per release")
    parser.add_argument("--yes", "-y", action="store_true", help="hold critical daemons too, without asking")
    parser.add_argument("--quiet", "-q", action="store_true", help="say nothing but warnings")
    parser.add_argument("-v", "--verbose", action="store_true", help="with the kernel's words if it refuses")
    parser.add_argument("--no-ask", action="store_true", help="do not ask what to do with a hold")
    # For gdb's plugin: a session without rules, until that process ends.
    parser.add_argument("--service", type=int, default=0, help=argparse.SUPPRESS)
    parser.usage = "clew hold [options] RULE… [-- CMD…]"
    parser.set_defaults(run=run, command_line=())
    split_at_dashes(parser)


def split_at_dashes(parser: argparse.ArgumentParser) -> None:
    """Have ``parser`` take what follows ``--`` as ``command_line``, and options before and after RULEs.

    argparse by itself gives a rest to the positionals it has seen last, options in between or not.
    """
    plain = parser.parse_known_args

    def parse(args: Sequence[str], namespace: Any = None) -> tuple[Any, list[str]]:
        words = list(args)
        at = words.index("--") if "--" in words else len(words)
        parser.parse_known_args = plain  # type: ignore[method-assign]
        known, rest = parser.parse_known_intermixed_args(words[:at], namespace)
        if at < len(words) - 1:
            known.command_line = tuple(words[at + 1 :])
        return known, rest

    parser.parse_known_args = parse  # type: ignore[method-assign, assignment]


def run(args: argparse.Namespace) -> int:
    """Hold until the command has ended, or ^C; the command's status, else 0."""
    from clew.cli.hold_loop import HoldLoop
    from clew.cli.rules import read_rules
    from clew.hold.options import HoldOptions
    from clew.hold.recorded_hop import with_hops_meant
    from clew.model.rules import RuleSet

    command = tuple(os.fsencode(word) for word in args.command_line)
    rules = RuleSet() if args.service and not args.rules else read_rules(args.rules, args.file)
    if not rules.rules and not args.service:
        raise UsageError("There is no rule to hold by.", "Exclusions alone hold nothing; add exec:NAME.")
    rules = with_hops_meant(rules)
    if _sees_all(args, command):
        _confirm(rules.rules, args)
    pids = tuple(args.pid)
    options = HoldOptions(
        args.scope,
        _lease(args.lease),
        _most(args.max_held),
        command,
        pids,
        serves=args.service,
        confirm=None if args.yes else lambda one: _confirm_reach(one, args),
    )
    return HoldLoop(rules, options, args.engine, args.json, args.quiet, _asks(args, command)).run()


def _sees_all(args: argparse.Namespace, command: tuple[bytes, ...]) -> bool:
    """Whether rules may hold any process of the machine; UsageError if the engine would see none."""
    from clew.engine.choose import bpf_lack

    lack = bpf_lack() if args.engine == "auto" else None
    if args.engine == "bpf" or args.service or (args.engine == "auto" and lack is None):
        return True
    if command or args.pid:
        return False
    why = f" The bpf engine, which sees every process, is not to be had. {lack.cause}" if lack else ""
    raise UsageError(
        f"The ptrace engine holds a command's own tree only, and there is no command.{why}",
        "Give a command after --, or a process with -p PID.",
    )


def _lease(text: str) -> float:
    try:
        return holding.seconds(text)
    except ValueError:
        raise UsageError(f"--lease wants a time, not {text!r}.", "Write 90s, 10m or 2h.") from None


def _most(number: int) -> int:
    if not 1 <= number <= 8192:
        raise UsageError(f"--max-held wants a number from 1 to 8192, not {number}.")
    return number


def _asks(args: argparse.Namespace, command: tuple[bytes, ...]) -> bool:
    plain = not (args.json or args.quiet or args.no_ask or command)
    return plain and sys.stdin.isatty() and sys.stdout.isatty()


def _confirm(rules: Iterable[Rule], args: argparse.Namespace) -> None:
    """Ask before rules are armed that would also hold what the machine needs to go on."""
    from clew.hold.critical import critical_matches
    from clew.kernel.syscalls import numbers
    from clew.model.rules.kernel import compile_rule

    for one in rules:
        compile_rule(one, numbers())  # one that means nothing is no question
    found = [] if args.yes else critical_matches(rules)
    if not found:
        return
    rule, names = found[0]
    _ask_for(f"{rule} would also hold {', '.join(names)}, without which this machine may stop working.", args)


def _confirm_reach(one: Reach, args: argparse.Namespace) -> None:
    """Ask before a rule is armed whose code critical programs have mapped now."""
    if one.critical:
        count = f"{one.processes} process{'es' * (one.processes != 1)}"
        names = ", ".join(one.critical)
        _ask_for(
            f"{one.rule} would hold any of {count} that run now, {names} among them, without which this"
            " machine may stop working.",
            args,
        )


def _ask_for(said: str, args: argparse.Namespace) -> None:
    if args.json or not sys.stdin.isatty():
        raise UsageError(said, "Narrow it (exe=, tree=, an exclusion), or add --yes.")
    print(f"clew: {said}", file=sys.stderr)
    if input("Hold nevertheless? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was held.")
