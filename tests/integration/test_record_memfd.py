"""A program that runs from memory goes by the name it was given there, in both engines."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Literal

import pytest

import clew
from clew.kernel import procfs
from clew.trace.tasks import TaskTable
from tests.support.tracing import compiled, record

# As runc(8) starts itself: from a copy in memory, so that a container cannot overwrite its program.
FROM_MEMORY = """
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>
int main(int argc, char **argv, char **environment)
{
	int from = open("/bin/cat", O_RDONLY), to = memfd_create(argc > 1 ? argv[1] : "runc", MFD_CLOEXEC);
	while (sendfile(to, from, NULL, 1 << 20) > 0) {}
	char *const words[] = {"cat", NULL};
	return fexecve(to, words, environment);
}
"""


def test_a_program_in_memory_has_its_name(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, "sh", "-c", f"{compiled(FROM_MEMORY)} < /dev/null; :", engine=engine)
    assert done.outcome.wait_status == 0
    tasks = TaskTable(done.trace)
    _life, span, last = tasks.execs[-1]
    assert last.image.exe == b"/memfd:runc"
    (ended,) = (life.t for life, exited in tasks.exits if exited is span)
    mapped = {mapping.path for mapping in tasks.mappings(span.id.tid, ended)}
    assert b"/memfd:runc (deleted)" in mapped


def test_a_program_in_memory_is_left_out_by_its_name(engine: str, tmp_path: Path) -> None:
    command = ("sh", "-c", f"{compiled(FROM_MEMORY)} < /dev/null; :")
    done = record(tmp_path, *command, exclude=[b"memfd:ru[n]c"], engine=engine)
    assert [
        bytes(image.image.exe).rpartition(b"/")[2] for _, _, image in TaskTable(done.trace).execs[1:]
    ] == [b"program"]


def test_what_runs_already_has_the_same_name() -> None:
    with subprocess.Popen([compiled(FROM_MEMORY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(b"there\n")
        running.stdin.flush()
        assert running.stdout.readline() == b"there\n"
        assert procfs.exe(running.pid) == b"/memfd:runc"


@pytest.mark.parametrize("glob", ["memfd:clew-test-m?", "/memfd:clew-test-m?"])
def test_a_rule_finds_it_by_its_name(engine: Literal["bpf", "ptrace"], glob: str) -> None:
    words: list[str | Path] = [compiled(FROM_MEMORY), "clew-test-m1"]
    with (
        clew.holding(f"exec:{glob}", engine=engine, control=False) as holds,
        holds.start(words, stdin=subprocess.DEVNULL) as process,
    ):
        held = holds.wait(timeout=30)
        assert (held.pid, held.hold.exe) == (process.pid, b"/memfd:clew-test-m1")
        held.release()
        assert process.wait(30) == 0
