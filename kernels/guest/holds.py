"""Each kind of rule holds a program of ours, which then ends as it would have without us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import clew
from clew.engine.bpf.parts import CRASH_HOLDS
from clew.kernel import procfs

_WAIT_S = 60.0
Engine = Literal["bpf", "ptrace"]


@dataclass(frozen=True, slots=True)
class Way:
    """A rule on ``PROGRAM``, what the program is told to do, and how it ends once it is let go."""

    rule: str
    act: str
    status: int = 5


PROGRAM = "clew-test-kernels"
WAYS = {
    "exec": Way(f"exec:{PROGRAM}", "work"),
    "fork": Way(f"fork:{PROGRAM}", "fork"),
    "call": Way("call:{path}!work", "work"),
    "at": Way("at:subject.c:{line},exe=" + PROGRAM, "work"),
    "syscall": Way(f"syscall:unlink,exe={PROGRAM}", "unlink"),
    "signal": Way(f"signal:USR1,exe={PROGRAM}", "usr1"),
    "exit": Way(f"exit:{PROGRAM}", "work"),
    "crash": Way(f"signal:SEGV,exe={PROGRAM}", "fall", -signal.SIGSEGV),
}


def lacks_for_crashes() -> str:
    """What this kernel lacks to hold a crash with the bpf engine; "" if nothing."""
    names = CRASH_HOLDS.lacks()
    return f"the kernel has no {' or '.join(names)}: {CRASH_HOLDS.instead}" if names else ""


def build(folder: Path) -> Path:
    """Compile the program there."""
    source, made = Path(__file__).with_name("subject.c"), folder / PROGRAM
    subprocess.run(["cc", "-g", "-O1", "-pthread", source, "-o", made], check=True, cwd=folder)
    return made


def one_way(name: str, engine: Engine) -> str:
    """Hold by the rule of that kind; how exact the hold was.  AssertionError, ClewError, TimeoutError."""
    way = WAYS[name]
    with tempfile.TemporaryDirectory(prefix="clew-kernels-") as folder:
        program = build(Path(folder))
        rule = way.rule.format(path=program, line=_line())
        options: dict[str, Any] = {"command": (os.fsencode(program),), "control": False, "engine": engine}
        with clew.holding(rule, **options) as holds:
            process = holds.start([program, way.act], stdin=subprocess.DEVNULL)
            exact = _held_and_let_go(holds, process)
        assert process.wait(_WAIT_S) == way.status, f"it ended with {process.returncode}, not {way.status}"
    return exact


def _line() -> int:
    text = Path(__file__).with_name("subject.c").read_text().splitlines()
    return next(number for number, line in enumerate(text, 1) if "AT:" in line)


def _held_and_let_go(holds: clew.Holding, process: subprocess.Popen[Any]) -> str:
    held = holds.wait(_WAIT_S)
    try:
        state = procfs.stat(held.pid, held.tid)
        assert state is not None and state.state in "Tt", f"it is in state {state and state.state}"
        assert held.backtrace(lines=False), "it has no backtrace"
        return held.hold.exact
    finally:
        held.release()


def storm(execs: int = 300, each: int = 10) -> str:
    """Many execs at once, one in ``each`` held: all of those and no other."""
    with tempfile.TemporaryDirectory(prefix="clew-kernels-") as folder:
        wanted, other = Path(folder, PROGRAM), Path(folder, "clew-other-kernels")
        for place in (wanted, other):
            place.write_bytes(Path("/bin/true").read_bytes())
            place.chmod(0o755)
        with clew.holding(f"exec:{PROGRAM}", control=False, max_held=execs, engine="bpf") as holds:
            started = [subprocess.Popen([wanted if n % each == 0 else other]) for n in range(execs)]
            expected = {process.pid for n, process in enumerate(started) if n % each == 0}
            held = [holds.wait(_WAIT_S) for _ in expected]
            assert {task.pid for task in held} == expected, "others were held"
            for n, process in enumerate(started):
                assert n % each == 0 or process.wait(_WAIT_S) == 0
            holds.release_all()
            assert all(process.wait(_WAIT_S) == 0 for process in started), "one did not end well"
    return f"{len(expected)} of {execs} execs held, no other"


def killed(count: int = 20) -> str:
    """``kill -9`` of the process that holds ``count``: all of them run on."""
    with tempfile.TemporaryDirectory(prefix="clew-kernels-") as folder:
        program = Path(folder, PROGRAM)
        program.write_bytes(Path("/bin/true").read_bytes())
        program.chmod(0o755)
        code = (
            "import clew\n"
            f"with clew.holding('exec:{PROGRAM}', control=False) as holds:\n"
            "    print('armed', flush=True)\n"
            f"    for _ in range({count}): holds.wait()\n"
            "    print('held', flush=True)\n"
            "    holds.wait()\n"
        )
        holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert holder.stdout is not None and holder.stdout.readline() == b"armed\n"
        started = [subprocess.Popen([program]) for _ in range(count)]
        assert holder.stdout.readline() == b"held\n", "not all were held"
        holder.kill()
        began = time.monotonic()
        assert all(process.wait(_WAIT_S) == 0 for process in started), "one did not end well"
        took = time.monotonic() - began
        holder.communicate()
    return f"{count} of {count} ran on within {took:.1f} s"


def ways(engine: Engine) -> dict[str, Callable[[], str]]:
    """A check for each kind of rule."""
    return {name: partial(one_way, name, engine) for name in WAYS}
