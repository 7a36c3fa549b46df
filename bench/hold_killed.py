"""``kill -9`` of the holding process at a random moment with 50 held: who is stuck after a second?

``python -m bench.hold_killed [RUNS]``.  Runs programs of its own names only.  Root.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from clew.kernel import procfs

_HELD = 50


def main(runs: int = 100) -> None:
    """Print how many were stuck, over all runs."""
    stuck, slowest = 0, 0.0
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as name:
        program = Path(name) / "clew-bench-k"
        shutil.copy("/bin/true", program)
        environment = {
            **os.environ,
            "CLEW_RUNTIME_DIR": str(Path(name) / "run"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        for _ in range(runs):
            left, took = _one(program, environment)
            stuck += left
            slowest = max(slowest, took)
    print(
        f"{runs} runs, {_HELD} held each, keeper killed: {stuck} stuck after 1 s;"
        f" all ran within {slowest:.3f} s"
    )


def _one(program: Path, environment: dict[str, str]) -> tuple[int, float]:
    code = (
        "import clew\n"
        f"with clew.holding('exec:{program.name}') as holds:\n"
        "    print('armed', flush=True)\n"
        "    while True: holds.wait()\n"
    )
    keeper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert keeper.stdout is not None
    keeper.stdout.readline()
    moment = random.randint(_HELD // 2, _HELD)
    started = []
    for number in range(_HELD):
        started.append(subprocess.Popen([program]))
        if number == moment:
            keeper.kill()
            killed = time.monotonic()
    if moment == _HELD:
        keeper.kill()
        killed = time.monotonic()
    took = 0.0
    while time.monotonic() < killed + 1.0:
        if all(process.poll() is not None for process in started):
            took = time.monotonic() - killed
            break
        time.sleep(0.001)
    left = [p for p in started if p.poll() is None and (s := procfs.stat(p.pid)) and s.state == "T"]
    for process in started:
        process.kill()
        process.wait()
    keeper.communicate()
    return len(left), took or 1.0


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
