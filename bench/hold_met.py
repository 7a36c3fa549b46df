"""What a call that meets a ``call:`` rule and is not held costs, and how soon others are answered meanwhile.

``python -m bench.hold_met``.  With the ptrace engine: the thread stops, is asked about, and passes its
breakpoint.  Then, with 64 tasks held and two threads that do nothing but meet a rule: ``clew ps`` (and what
it takes without the two), and how late a lease ends.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import clew

_FOLDER = Path(__file__).parent
_CALLS, _ROUNDS, _HELD = 2000, 5, 64
_LEASE_S = 1.0
_NEVER = 1_000_000_000
_CLEW = (sys.executable, "-c", "from clew.cli.main import run; run()")


def main() -> None:
    """Print everything."""
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as name:
        os.environ["CLEW_RUNTIME_DIR"] = name
        program = Path(name) / "clew-bench-met"
        subprocess.run(["cc", "-O1", "-pthread", _FOLDER / "hold_met.c", "-o", program], check=True)
        print("\na call that meets a rule and is not held, engine ptrace")
        for how in ("worked_out", "run_elsewhere"):
            for threads in (1, 4):
                _met(program, how, threads)
        print(f"\nwith {_HELD} held, and two threads that do nothing but meet a rule")
        _answers(program)


def _met(program: Path, how: str, threads: int) -> None:
    with clew.holding(f"call:{program}!met_{how},n={_NEVER}", engine="ptrace", control=False) as holds:
        found = []
        for _ in range(_ROUNDS):
            words = [str(program), str(_CALLS), str(threads), how]
            process = holds.start(words, stdout=subprocess.PIPE)
            found.append(int(process.communicate()[0]) / 1000)
    middle, least, most = statistics.median(found), min(found), max(found)
    print(f"  {how:14} {threads} thread{'s' * (threads > 1):1}: {middle:.0f} µs ({least:.0f} to {most:.0f})")


def _answers(program: Path) -> None:
    rules = [f"call:{program}!met_worked_out,n={_NEVER}", "exec:true"]
    with clew.holding(*rules, engine="ptrace", lease=600) as holds:
        held = [holds.start(["/bin/true"]) for _ in range(_HELD)]
        found = [holds.wait(timeout=60) for _ in range(_HELD)]
        idle = _ps()
        busy = holds.start([str(program), "1000000000", "2", "w"])
        took = _ps()
        print(f"  clew ps: {statistics.median(took):.2f} s (to {max(took):.2f})", end="")
        print(f"; without the threads {statistics.median(idle):.2f} s (to {max(idle):.2f})")
        asked = []
        for one in found[:20]:
            began = time.monotonic()
            one.now()
            asked.append(time.monotonic() - began)
        print(f"  a request: {statistics.median(asked) * 1e3:.1f} ms (to {max(asked) * 1e3:.1f})")
        print(f"  a lease of {_LEASE_S} s: {_lease(holds, found[0]):.2f} s")
        holds.release_all()
        for process in held:
            process.wait()
        busy.kill()
        busy.wait()


def _ps() -> list[float]:
    took = []
    for _ in range(_ROUNDS):
        began = time.monotonic()
        subprocess.run([*_CLEW, "ps"], check=True, stdout=subprocess.DEVNULL)
        took.append(time.monotonic() - began)
    return took


def _lease(holds: clew.Holding, one: clew.HeldTask) -> float:
    one.renew(_LEASE_S)
    began = time.monotonic()
    while any(other.id == one.id for other in holds.held()):
        time.sleep(0.01)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
