"""Whom a rule with places in code would stop: counted among the processes that map that code now."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from clew.engine.ptrace.who import facts
from clew.hold.critical import CRITICAL
from clew.hold.describe import mapped_file
from clew.hold.functions import Place
from clew.hold.spared import own_chain
from clew.kernel import procfs
from clew.model.rules.match import excludes, meets
from clew.model.rules.rule import Exclusion, Rule


@dataclass(frozen=True, slots=True)
class Reach:
    """A rule's text, how many processes it may stop as they run now, and the critical ones' names."""

    rule: str
    processes: int
    critical: tuple[str, ...]


def reach(found: Iterable[tuple[Rule, list[Place]]], exclusions: Collection[Exclusion]) -> list[Reach]:
    """The reach of each rule that has places in code."""
    placed = [(rule, {_identity(place.file.path) for place in places}) for rule, places in found if places]
    if not placed:
        return []
    spared = set(own_chain()) | {1}
    mapped = {pid: _mapped(pid) for pid in procfs.pids() if pid not in spared}
    return [_reach(rule, files, mapped, exclusions) for rule, files in placed]


def _reach(
    rule: Rule,
    files: set[tuple[int, int] | None],
    mapped: dict[int, set[tuple[int, int] | None]],
    exclusions: Collection[Exclusion],
) -> Reach:
    programs = []
    for pid in (pid for pid, theirs in mapped.items() if theirs & files - {None}):
        event = facts(rule.kind, pid, pid, False)
        if meets(rule, event) and not any(excludes(one, event) for one in exclusions):
            programs.append(event.exe)
    critical = {exe.rpartition(b"/")[2].decode() for exe in programs if exe in CRITICAL}
    return Reach(rule.text, len(programs), tuple(sorted(critical)))


def _mapped(pid: int) -> set[tuple[int, int] | None]:
    return {_identity(mapped_file(pid, one)) for one in procfs.mappings(pid) if one.path.startswith(b"/")}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
