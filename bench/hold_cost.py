"""What holding costs those whom no rule is about: an exec that no rule takes, and a program's calls.

``python -m bench.hold_cost``.  Two measures, for a machine's noise drowns the first: processor time, as the
least of many short batches taken turn and turn about; and the kernel's own account of the probe
(kernel.bpf_stats_enabled), in proportion to the processor time of the exec it is part of.  Root.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import clew

_FOLDER = Path(__file__).parent
_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
_BATCHES, _EXECS, _CALLS = 15, 200, 300_000
_RULES = [f"exec:clew-bench-other-{number}*" for number in range(3)]
_HELD_ELSEWHERE = ["exec:clew-bench-other", "call:libc.so.6!getpid,exe=clew-bench-other"]


@dataclass(frozen=True, slots=True)
class Account:
    """How often our probes ran, and for how long."""

    runs: int
    ns: int


def main() -> None:
    """Print everything."""
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as name:
        folder = Path(name)
        storm, leaf = _build(folder)
        usual = Path(shutil.copy("/bin/true", folder / "clew-bench-true"))
        print("\nadded to an exec that does not match (bar: 3%)")
        for what, program in (("the least static program", leaf), ("/bin/true", usual)):
            for rules in (_RULES[:1], _RULES):
                _exec(f"{what}, {len(rules)} rule{'s' * (len(rules) > 1)}", storm, program, rules)
        print("\nadded to a program with no rule on it (bar: not measurable)")
        _calls()


def _build(folder: Path) -> tuple[Path, Path]:
    storm, leaf = folder / "storm", folder / "clew-bench-no"
    subprocess.run(["cc", "-O2", _FOLDER / "hold_storm.c", "-o", storm], check=True)
    subprocess.run(["cc", "-nostdlib", "-static", _FOLDER / "hold_leaf.c", "-o", leaf], check=True)
    return storm, leaf


def _exec(what: str, storm: Path, program: Path, rules: Sequence[str]) -> None:
    words = [str(storm), str(_EXECS), str(program)]
    bare, held = [], []
    for _ in range(_BATCHES):
        bare.append(_processor_s(words))
        with _holding(rules):
            held.append(_processor_s(words))
    with _holding(rules), _counted():
        before = _account()
        _processor_s(words)
        after = _account()
    own_ns = (after.ns - before.ns) / max(after.runs - before.runs, 1)
    exec_ns = min(bare) / _EXECS * 1e9
    print(
        f"  {what:36} clock x{min(held) / min(bare):.3f};"
        f" probe {own_ns / 1e3:.2f} of {exec_ns / 1e3:.0f} µs: {own_ns / exec_ns:.2%}"
    )


def _calls() -> None:
    words = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={_CALLS}", "status=none"]
    bare, held = [], []
    for _ in range(_BATCHES):
        bare.append(_processor_s(words))
        with _holding(_HELD_ELSEWHERE):
            held.append(_processor_s(words))
    with _holding(_HELD_ELSEWHERE), _counted():
        before = _account()
        _processor_s(words)
        after = _account()
    print(
        f"  {2 * _CALLS} system calls: clock x{min(held) / min(bare):.3f}; our probes ran"
        f" {after.runs - before.runs} times, for {(after.ns - before.ns) / 1e3:.1f} µs"
    )


def _processor_s(words: Sequence[str]) -> float:
    """The processor time of a command and its children: other work hardly changes it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@contextmanager
def _holding(rules: Sequence[str]) -> Iterator[None]:
    with clew.holding(*rules, control=False):
        yield


@contextmanager
def _counted() -> Iterator[None]:
    before = _STATS.read_text()
    _STATS.write_text("1")
    try:
        yield
    finally:
        _STATS.write_text(before)


def _account() -> Account:
    """The kernel's account of all our probes."""
    runs = ns = 0
    for file in Path("/proc/self/fdinfo").iterdir():
        try:
            text = file.read_text()
        except OSError:
            continue
        found = dict(re.findall(r"^(\w+):\s*(\d+)$", text, re.MULTILINE))
        if "run_cnt" in found:
            runs += int(found["run_cnt"])
            ns += int(found["run_time_ns"])
    return Account(runs, ns)


if __name__ == "__main__":
    main()
