"""A program on a file system that hangs: its holds are told, and end, all the same."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import clew
from clew.kernel import procfs, signals
from tests.support.bounded import until

pytestmark = pytest.mark.requires("root", "ptrace", "compiler", "bindfs")

SUBJECT = r"""
#include <unistd.h>
__attribute__((noipa)) int clew_test_work(int n) { return n + 1; }
int main(void) {
    char byte;
    int sum = clew_test_work(1);
    write(1, "x", 1);
    while (read(0, &byte, 1) == 1) ;
    return sum + clew_test_work(2);
}
"""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A program on FUSE, and the process of its server."""
    real, shown = tmp_path / "real", tmp_path / "shown"
    real.mkdir()
    shown.mkdir()
    (real / "subject.c").write_text(SUBJECT)
    name = f"clew-test-f{os.getpid()}"
    subprocess.run(["cc", "-g", "-O1", real / "subject.c", "-o", real / name], check=True)
    server = subprocess.Popen(["bindfs", "-f", real, shown])
    try:
        until((shown / name).exists)
        yield shown / name, server.pid
    finally:
        server.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "-l", shown], check=True)
        server.wait()


def test_leases_end_and_requests_are_answered(mounted: tuple[Path, int]) -> None:
    program, server = mounted
    with clew.holding(
        f"call:{program}!clew_test_work,n=2", engine="ptrace", lease=0.5, control=False
    ) as holds:
        process = holds.start([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None
        process.stdout.read(1)
        # A file that clew has not looked into since its server hangs.
        os.kill(server, signal.SIGSTOP)
        until(lambda: signals.state(server, server) == "T")
        process.stdin.close()
        held = holds.wait(timeout=20)
        assert held.hold.at.module == os.fsencode(program)
        until(lambda: not holds.held(), what="the lease's end")
        assert process.wait(10) == 5
    assert procfs.stat(server)
