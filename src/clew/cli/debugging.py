"""Hand a held task to a debugger, run the debugger, and see what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence

from clew.debugger.gdb import Target, clew_command
from clew.hold.client import HoldClient

Builder = Callable[[Target, Sequence[str]], list[str]]


def run_debugger(build: Builder, hold_id: str, arguments: Sequence[str]) -> int:
    """Run the debugger that ``build`` makes the command of, on hold ``hold_id``; its exit status.

    The connection stays open meanwhile: it is what keeps the debugger, and what it starts, from being held.
    """
    with HoldClient() as client:
        hold = client.hand_over(hold_id, debugger=os.getpid())
        command = build(Target(hold.id, hold.pid, hold.tid), arguments)
        environment = {**os.environ, "CLEW_COMMAND": json.dumps(clew_command())}
        # ^C is for the debugger, in our process group; a handler, unlike SIG_IGN, does not outlive its exec.
        before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
        try:
            return subprocess.Popen(command, env=environment).wait()
        finally:
            signal.signal(signal.SIGINT, before)
