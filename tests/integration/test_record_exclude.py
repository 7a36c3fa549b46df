"""--exclude leaves out the same programs in both engines."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from clew.kernel import procfs
from clew.model.event import EventKind
from tests.support.tracing import compiled, record

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="comparing with the bpf engine needs root")


RENAMES = """
#include <unistd.h>
int main(int argc, char **argv)
{
	return argc == 3 ? execl(argv[1], argv[2], (char *)0) : 2;
}
"""


def _programs(tmp_path: Path) -> str:
    """A script for the shell that runs a program, a link to one, a script, and one by another argv[0]."""
    shutil.copy("/bin/true", tmp_path / "real-a")
    (tmp_path / "link-b").symlink_to("real-a")
    shutil.copy("/bin/sh", tmp_path / "inter-c")
    (tmp_path / "script-d").write_text(f"#!{tmp_path}/inter-c\n:\n")
    (tmp_path / "script-d").chmod(0o755)
    shutil.copy("/bin/true", tmp_path / "file-e")
    renamed = f"{compiled(RENAMES)} {tmp_path}/file-e /x/called-f"
    return "; ".join([*(f"{tmp_path}/{name}" for name in ("real-a", "link-b", "script-d")), renamed, ":"])


@pytest.mark.parametrize("engine", ["bpf", "ptrace"])
@pytest.mark.parametrize(
    ("glob", "left"),
    [
        (b"real-a", {"script-d", "file-e"}),
        (b"link-b", {"real-a", "script-d", "file-e"}),
        (b"script-d", {"real-a", "link-b", "file-e"}),
        (b"inter-c", {"real-a", "link-b", "file-e"}),
        (b"called-f", {"real-a", "link-b", "script-d"}),
        (b"file", {"real-a", "link-b", "script-d", "file-e"}),
        (rb"re\x61l-[!b]", {"script-d", "file-e"}),
        (rb"re\al-?", {"script-d", "file-e"}),
        (b"*", set()),
    ],
)
def test_both_engines_leave_out_the_same(engine: str, glob: bytes, left: set[str], tmp_path: Path) -> None:
    script = _programs(tmp_path)
    done = record(tmp_path, "sh", "-c", script, exclude=[glob], engine=engine)
    assert done.outcome.wait_status == 0
    execs = [life for life in done.lives if life.kind == EventKind.EXECED and life.t]
    assert {os.fsdecode(life.blob).rpartition("/")[2] for life in execs} - {"sh", "program"} == left
    assert any(life.blob.endswith(b"/sh") for life in execs)  # the command itself


@pytest.mark.parametrize("engine", ["bpf", "ptrace"])
def test_the_command_is_kept_whatever_it_execs(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, "sh", "-c", "exec true", exclude=[b"*"], engine=engine)
    execs = [life.blob.rpartition(b"/")[2] for life in done.lives if life.kind == EventKind.EXECED and life.t]
    assert execs == [b"sh", b"true"]


def test_what_runs_already_has_the_same_names(tmp_path: Path) -> None:
    shutil.copy("/bin/cat", tmp_path / "inter-c")
    script = tmp_path / "script-d"
    script.write_text(f"#!{tmp_path}/inter-c -\n")
    script.chmod(0o755)
    (tmp_path / "link-b").symlink_to("script-d")
    with subprocess.Popen([tmp_path / "link-b"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(b"there\n")
        running.stdin.flush()
        assert running.stdout.readline() == b"there\n"
        names = procfs.program_names(running.pid)
    assert {name.rpartition(b"/")[2] for name in names} == {b"inter-c", b"link-b"}
