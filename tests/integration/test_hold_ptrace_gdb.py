"""gdb's breakpoints and ours in the same place, with the ptrace engine: none is lost, none is left."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

import clew
from clew.kernel import procfs

pytestmark = pytest.mark.requires("ptrace", "compiler", "gdb")

SUBJECT = r"""
#include <signal.h>
#include <unistd.h>
static volatile int handled;
static void on_usr1(int number) { (void)number; handled++; }
__attribute__((noipa)) int clew_test_work(int n) { return n + 1; }
int main(void) {
    int sum = 0;
    signal(SIGUSR1, on_usr1);
    for (int i = 0; i < 4; i++) sum += clew_test_work(i);
    return sum == 10 && handled == 1 ? 5 : 9;
}
"""


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subject")
    source = folder / "subject.c"
    source.write_text(SUBJECT)
    program = folder / f"clew-test-g{os.getpid()}"
    subprocess.run(["cc", "-g", "-O1", source, "-o", program], check=True)
    return program


def gdb(pid: int, *commands: str) -> str:
    words = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-p", str(pid), *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("killed", [False, True], ids=["lives", "killed"])
def test_the_same_place(subject: Path, killed: bool) -> None:
    with clew.holding(f"call:{subject}!clew_test_work,n=2", engine="ptrace", control=False) as holds:
        process = holds.start([subject])
        held = holds.wait(timeout=10)
        held.hand_over()
        os.kill(process.pid, signal.SIGUSR1)
        heir = holds.session.tracer
        holder = (procfs.read(f"/proc/{heir}/task/{heir}/children") or b"").split()[0].decode()
        kill = f"shell kill -9 {holder}" if killed else "echo"
        said = gdb(
            process.pid,
            "handle SIGSTOP nostop noprint nopass",
            "info registers rip",
            "break *clew_test_work",
            "x/1i clew_test_work",
            "handle SIGUSR1 nostop noprint pass",
            kill,
            "continue",
            "continue",
            "x/1i clew_test_work",
            "delete",
        )
        rip = next(line for line in said.splitlines() if line.startswith("rip "))
        assert "<clew_test_work>" in rip, said  # The signal waits.
        assert said.count("Breakpoint 1, clew_test_work") == 2, said
        assert "int3" not in said, said
        if not killed:
            held.release(force=True)
        assert process.wait(10) == 5
