"""``clew rules explain``: what rules mean, and what they would have held in a recording."""

from __future__ import annotations

import argparse
import json
import os
import platform
import pwd
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from clew.errors import UsageError
from clew.kernel import syscalls
from clew.model.rules import (
    Exclusion,
    Facts,
    Rule,
    RuleKind,
    RuleSet,
    Verdict,
    Vocabulary,
    explain,
    parse_rule_file,
    parse_rules,
    replay,
)
from clew.view.escape import json_text, visible

RecordedFacts = Callable[[bytes], Iterable[Facts]]
"""Reads the trace at a path as the facts of its events, in the order they happened."""

_MOST_SHOWN = 20

_EPILOG = """examples:
  clew rules explain 'exec:*qemu-system-x86_64,argv=*guest=tiny*'
  clew rules explain --file daemons.toml
  clew rules explain --trace start.clew call:virExec 'not:tree:sshd'

The language of rules: docs/rules.md
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``rules`` and its one action to the command line."""
    parser = subparsers.add_parser("rules", help="say what rules mean", description=__doc__)
    actions = parser.add_subparsers(dest="rules_action", metavar="ACTION", required=True)
    action = actions.add_parser(
        "explain",
        help="say in a sentence what each rule holds",
        description="Say in a sentence what each rule holds; with --trace, what it would have held there.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action.add_argument("rules", nargs="*", metavar="RULE", help="a rule, or an exclusion (!exec:GLOB)")
    action.add_argument("--file", "-f", metavar="FILE", help="a rule file (TOML)")
    action.add_argument("--trace", "-t", metavar="TRACE", help="a recording to try the rules on")
    action.add_argument("--json", action="store_true", help="print one JSON object")
    action.set_defaults(run=run)


def run(args: argparse.Namespace, recorded: RecordedFacts | None = None) -> int:
    """Print the explanation; ``recorded`` reads the recording that ``--trace`` names.

    Raises RuleError, UsageError for nothing to explain or an unreadable file, TraceError.
    """
    from clew.hold.recorded_hop import with_hops_meant

    rules = with_hops_meant(read_rules(args.rules, args.file))
    verdicts: tuple[Verdict, ...] | None = None
    if args.trace is not None:
        verdicts = replay(rules, (recorded or read_recorded)(os.fsencode(args.trace)))
    if args.json:
        json.dump(as_json(rules, verdicts), sys.stdout, ensure_ascii=True)
        print()
    else:
        print("\n".join(as_text(rules, verdicts)))
    return 0


def read_recorded(trace: bytes) -> Iterable[Facts]:
    """The events of the recording at path ``trace``.  Raises TraceError."""
    from clew.flow.facts import recorded_facts
    from clew.trace.reader import Trace

    return recorded_facts(Trace(Path(os.fsdecode(trace))))


def vocabulary() -> Vocabulary:
    """The names this machine knows: its system calls and its users."""
    return Vocabulary(syscalls.numbers(platform.machine()), _uid_of)


def read_rules(texts: Sequence[str], file: str | None) -> RuleSet:
    """The rules given as ``texts`` and in the rule ``file``.  Raises RuleError, UsageError."""
    words = vocabulary()
    rules = parse_rules(texts, words)
    if file is not None:
        rules += parse_rule_file(_read(file), words)
    if not rules.rules and not rules.exclusions:
        raise UsageError("There is no rule.", "Give one such as exec:qemu-system-*, or --file FILE.")
    return rules


def as_text(rules: RuleSet, verdicts: tuple[Verdict, ...] | None) -> list[str]:
    """The lines for a terminal, nothing in them unescaped."""
    lines: list[str] = []
    for index, rule in enumerate(rules.rules):
        lines += _heading(rule)
        if verdicts is not None:
            lines += _verdict_lines(rule, verdicts[index])
    for exclusion in rules.exclusions:
        lines += _heading(exclusion)
    return lines


def as_json(rules: RuleSet, verdicts: tuple[Verdict, ...] | None) -> dict[str, Any]:
    """The object ``--json`` prints; docs/rules.md describes it."""
    described = [_described(rule) for rule in rules.rules]
    for entry, verdict in zip(described, verdicts or (), strict=False):
        entry |= {
            "hits": verdict.hits,
            "excluded": verdict.excluded,
            "held": list(map(_event, verdict.taken)),
        }
    return {"rules": described, "exclusions": [_described(exclusion) for exclusion in rules.exclusions]}


def _heading(rule: Rule | Exclusion) -> list[str]:
    return [visible(rule.text), f"    {visible(explain(rule))}"]


_UNSEEN = {
    RuleKind.SYSCALL: "(It has the calls by which tasks talk, wait, begin and change rights, no others.)",
    RuleKind.CALL: "(It has backtraces of some system calls: a function shows if it made one.)",
    RuleKind.AT: "(It has backtraces of some system calls: a line shows if it made one.)",
}
"""What a recording does not tell: a hold may find more."""


def _verdict_lines(rule: Rule, verdict: Verdict) -> list[str]:
    left_out = f", {verdict.excluded} more excluded" if verdict.excluded else ""
    head = f"    In the recording: {_counted(verdict.hits, 'hit')}{left_out}, {len(verdict.taken)} held."
    shown = [f"      {_event_line(facts)}" for facts in verdict.taken[:_MOST_SHOWN]]
    more = len(verdict.taken) - len(shown)
    unseen = _UNSEEN.get(rule.kind)
    shown = [f"    {unseen}", *shown] if unseen else shown
    return [head, *shown, *([f"      and {more} more: --json lists them all"] if more else [])]


def _event_line(facts: Facts) -> str:
    command = b" ".join(facts.argv) or facts.exe or facts.comm
    line = visible(command)
    return f"{facts.t_ns / 1e6:12.3f} ms  {facts.kind:<7} {facts.pid:>7}  {line[:99]}{'…' * (len(line) > 99)}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _described(rule: Rule | Exclusion) -> dict[str, Any]:
    return {"rule": json_text(rule.text), "means": json_text(explain(rule))}


def _event(facts: Facts) -> dict[str, Any]:
    return {
        "kind": str(facts.kind),
        "pid": facts.pid,
        "tid": facts.tid or facts.pid,
        "comm": json_text(facts.comm),
        "exe": json_text(facts.exe),
        "argv": list(map(json_text, facts.argv)),
        "t_ms": facts.t_ns / 1e6,
    }


def _uid_of(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"The rule file {file!r} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"The rule file {file!r} is not UTF-8 text.", "TOML files are UTF-8.") from error
