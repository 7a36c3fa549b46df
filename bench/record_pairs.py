"""Running one program by several ways, turn and turn about, and the ratios of what each way adds.

A machine is never as quiet as one would like.  So nothing here is compared across minutes: each round runs
every way once, ratios are taken within a round, and what is told is their median with the least and the
greatest.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Way:
    """How a program is run: ``before`` goes before its own words, ``rounds`` is how long it is to loop."""

    name: str
    before: tuple[str, ...]
    rounds: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Nanoseconds per system call: by the clock, and of the program's own CPU time."""

    wall: float
    cpu: float


def clew() -> list[str]:
    """The words that run the clew of this Python."""
    script = Path(sys.executable).parent / "clew"
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "from clew.cli.main import run; run()"]


def build(name: str, folder: Path) -> str:
    """Compile ``name``.c of this folder; the program's path."""
    cc = next((found for word in ("cc", "gcc", "clang") if (found := shutil.which(word))), None)
    if cc is None:
        raise SystemExit("bench: a C compiler is needed (Debian: gcc libc6-dev)")
    program = folder / name
    subprocess.run([cc, "-O2", "-o", program, SOURCES / f"{name}.c"], check=True)
    return str(program)


def have(name: str) -> bool:
    """Whether there is a tool of this name that runs (Debian's ``perf`` may be a script that finds none)."""
    return (
        shutil.which(name) is not None
        and not subprocess.run(
            [name, "-V" if name == "strace" else "version"], capture_output=True, check=False
        ).returncode
    )


def run(way: Way, program: Sequence[str], folder: Path) -> Cost:
    """Run ``program`` once; what it printed.  Whatever the tool writes lies in ``folder``."""
    done = subprocess.run(
        [*way.before, *program, str(way.rounds)], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"bench: {way.name} failed: {done.stderr or done.stdout}")
    wall, cpu = done.stdout.split()[:2]
    return Cost(float(wall), float(cpu))


def interleave(
    ways: Sequence[Way], program: Sequence[str], folder: Path, rounds: int
) -> list[dict[str, Cost]]:
    """Each way once in each round, the next round starting with another way."""
    table = []
    for at in range(rounds):
        turn = at % len(ways)
        table.append({way.name: run(way, program, folder) for way in (*ways[turn:], *ways[:turn])})
    return table


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """``median (min-max)``."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:{form}} ({low:{form}}-{high:{form}})"


def told(table: Sequence[dict[str, Cost]], measure: str, bare: str = "bare") -> None:
    """Print for each way the time per call and what it adds to ``bare``."""
    print(f"  {'':10} {'ns per call':>26} {'added':>26}   [{measure}]")
    for name in table[0]:
        each = [getattr(row[name], measure) for row in table]
        more = [getattr(row[name], measure) - getattr(row[bare], measure) for row in table]
        print(f"  {name:10} {spread(each, '.0f'):>26} {'' if name == bare else spread(more, '.0f'):>26}")


def ratios(
    table: Sequence[dict[str, Cost]], over: str, under: str, measure: str, bare: str = "bare"
) -> list[float]:
    """What ``over`` adds, divided by what ``under`` adds, round by round."""
    found = []
    for row in table:
        base = getattr(row[bare], measure)
        added = getattr(row[under], measure) - base
        found.append((getattr(row[over], measure) - base) / added if added > 0 else float("inf"))
    return found


def bar(what: str, values: Sequence[float], least: float) -> None:
    """Print a ratio beside what it should be at least."""
    print(f"  {what}: {spread(values)} times; the bar is {least:g}")


def title(text: str) -> None:
    """A heading, with what makes the figures worth less: the machine's load, and other recorders at work."""
    others = recorders()
    beside = f"; {others} other recorder{'s' * (others > 1)} at work" if others else ""
    print(f"\n{text}   [load {os.getloadavg()[0]:.2f} on {os.cpu_count()} CPUs{beside}]", flush=True)


def recorders() -> int:
    """How many clews record just now, whoever's; 0 where there is no bpftool to ask."""
    if shutil.which("bpftool") is None:
        return 0
    shown = subprocess.run(
        ["bpftool", "prog", "show", "-j"], capture_output=True, text=True, check=False
    ).stdout
    return sum(row.get("name") == "record_sys_enter" for row in json.loads(shown or "[]"))
