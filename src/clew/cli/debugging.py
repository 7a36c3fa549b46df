"""Run a debugger: on a held task that is handed over to it, or on a core file of a recorded hop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from clew.debugger.gdb import Target, clew_command
from clew.hold.client import HoldClient

Builder = Callable[[Target, Sequence[str]], list[str]]
CoreBuilder = Callable[[bytes, Path, Sequence[str]], list[str]]


def run_debugger(build: Builder, hold_id: str, arguments: Sequence[str]) -> int:
    """Run the debugger that ``build`` makes the command of, on hold ``hold_id``; its exit status.

    The connection stays open meanwhile: it is what keeps the debugger, and what it starts, from being held.
    """
    with HoldClient() as client:
        hold = client.hand_over(hold_id, debugger=os.getpid())
        command = build(Target(hold.id, hold.pid, hold.tid), arguments)
        return _run(command, {**os.environ, "CLEW_COMMAND": json.dumps(clew_command())})


def run_on_core(build: CoreBuilder, hop: str, arrived: bool, arguments: Sequence[str]) -> int:
    """Run the debugger on a core file of the end of a recorded hop, removed afterwards; its exit status."""
    from clew.cli.hop_argument import core_of
    from clew.view.escape import visible

    core = core_of(hop, arrived)
    for line in core.missing:
        print(f"clew: {visible(line)} Its frames may have no names.", file=sys.stderr)
    with tempfile.NamedTemporaryFile(prefix="clew-", suffix=".core") as file:
        file.write(core.data)
        file.flush()
        return _run(build(core.program, Path(file.name), arguments), dict(os.environ))


def _run(command: list[str], environment: dict[str, str]) -> int:
    # ^C is for the debugger, in our process group; a handler, unlike SIG_IGN, does not outlive its exec.
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        return subprocess.Popen(command, env=environment).wait()
    finally:
        signal.signal(signal.SIGINT, before)
