"""What is typed at the question of ``clew hold``."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# The process that holds is root's: it dies rather than unwind what a program of anybody's says of itself.
HOLDS = """
import os
from clew.stack import session
session.UnwindSession.__init__ = lambda *_words, **_named: os._exit(99)
from clew.cli.main import run
run()
"""


def _until(terminal: int, text: bytes) -> None:
    """Read what the terminal shows, up to ``text`` and to the end of its line."""
    shown = b""
    while b"\n" not in shown.partition(text)[2]:
        assert select.select([terminal], [], [], 60)[0], shown
        shown += os.read(terminal, 4096)


@pytest.mark.usefixtures("runtime")
def test_a_backtrace_is_unwound_by_another_process(engine: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    terminal, theirs = pty.openpty()
    words = ["hold", "--engine", engine, "exec:true"]
    subject = subprocess.Popen(["sh", "-c", "read line < gate; exec /bin/true"], cwd=tmp_path)
    command = [sys.executable, "-c", HOLDS, *words, "-p", str(subject.pid)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as holds:
        os.close(theirs)
        try:
            _until(terminal, b"Holding by 1 rule")
            (tmp_path / "gate").write_text("go\n")
            _until(terminal, b"clew release H1")
            os.write(terminal, b"b\n")
            _until(terminal, b"#0  ")
            os.write(terminal, b"r\n")
            assert subject.wait(60) == 0
            holds.send_signal(signal.SIGINT)
            assert holds.wait(60) == 0
        finally:
            holds.terminate()
            subject.kill()
            subject.wait()
            os.close(terminal)
