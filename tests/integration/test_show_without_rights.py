"""What thinks does so without rights: who follows, unwinds, names and shows as root is not root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from clew.code import opening
from clew.trace.spool import FRAMES
from tests.support.clew_command import clew, complaint

pytestmark = pytest.mark.requires("root", "ptrace", "compiler")

# Says, in the place of a view, with which rights it is made.
_TELLS = """
import sys
from pathlib import Path
from clew.view import json_view
def render(flow, options):
    return Path("/proc/self/status").read_text()
json_view.render = render
from clew.cli.main import run
run()
"""
_SOURCE = """
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noipa)) void clew_test_starts(void) {
    if (!vfork()) { execl("/bin/true", "true", (char *)0); _exit(1); }
    wait(0);
}
int main(void) { clew_test_starts(); }
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program in a folder that only root may enter."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    (folder / "starts.c").write_text(_SOURCE)
    subprocess.run(["cc", "-g", "-O1", folder / "starts.c", "-o", folder / "starts"], check=True)
    return folder / "starts"


@pytest.mark.parametrize("sudo", [False, True])
@pytest.mark.parametrize("verb", ["follow", "show"])
def test_the_view_is_made_without_rights(verb: str, sudo: bool, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    assert clew("record", "-q", "--engine", "ptrace", "-o", trace, "--", "true").returncode == 0
    words = ("show", trace) if verb == "show" else ("follow", "--engine", "ptrace", "--", "true")
    command = [sys.executable, "-c", _TELLS, *words[:1], "--json", *words[1:]]
    environment = {**os.environ, **({"SUDO_UID": "12345", "SUDO_GID": "12345"} if sudo else {})}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    said = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    uids = said["Uid"].split()
    assert uids == ["12345"] * 4 if sudo else "0" not in uids
    assert said["CapEff"].strip() == said["CapPrm"].strip() == "0" * 16
    assert said["NoNewPrivs"].strip() == "1"
    assert said["Groups"].strip() == ""


def test_programs_that_only_root_can_read_have_names_all_the_same(program: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    done = clew("follow", "--engine", "ptrace", "--json", "-o", trace, "--", program)
    assert done.returncode == 0, complaint(done)
    assert "clew_test_starts" in done.stdout.decode()
    kept = json.loads((trace / FRAMES).read_text())
    assert "clew_test_starts" in {frame[0] for frame in kept["frames"]}
    assert (trace / FRAMES).stat().st_uid == 0


# Says, in the place of a table, who made it.
_EXPORTS = """
import numpy, os
from clew.trace import parquet
parquet._frames = lambda _backtraces: {"uid": numpy.array([os.geteuid()])}
from clew.cli.main import run
run()
"""


def test_tables_are_made_without_rights(tmp_path: Path) -> None:
    trace, private = tmp_path / "trace", tmp_path / "private"
    private.mkdir(mode=0o700)
    assert clew("record", "-q", "--engine", "ptrace", "-o", trace, "--", "true").returncode == 0
    words: tuple[str | Path, ...] = (sys.executable, "-c", _EXPORTS, "export", trace, private / "tables")
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 0, complaint(done)
    ((uid,),) = duckdb.execute(f"SELECT uid FROM '{private}/tables/frames.parquet'").fetchall()
    assert uid != 0
    ((images,),) = duckdb.execute(f"SELECT count(*) FROM '{private}/tables/images.parquet'").fetchall()
    assert images > 0
    assert f"{private}/tables/images.parquet  {images} rows" in done.stdout.decode()


@pytest.mark.parametrize("form", ["text", "json", "svg", "html", "mermaid", "dot"])
def test_every_format_is_there_where_clew_is_installed_for_root_alone(form: str, tmp_path: Path) -> None:
    """What is imported late could not be, after the rights are gone."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    source = Path(opening.__file__).parent.parent
    subprocess.run(["cp", "-r", source, private / "clew"], check=True)
    trace = tmp_path / "trace"
    script = f"import sys; sys.path.insert(0, {str(private)!r}); from clew.cli.main import run; run()"
    made = clew("follow", "--engine", "ptrace", "-o", trace, "--", "sh", "-c", "true; /bin/true | cat")
    assert made.returncode == 0, complaint(made)
    (trace / FRAMES).unlink()
    command = [sys.executable, "-P", "-c", script, "show", str(trace), "--format", form]
    shown = subprocess.run(command, capture_output=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout == clew("show", trace, "--format", form).stdout


def test_a_child_that_is_ended_is_told(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    assert clew("record", "-q", "--engine", "ptrace", "-o", trace, "--", "true").returncode == 0
    script = _TELLS.replace(
        'return Path("/proc/self/status").read_text()', "import os; os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", script, "show", "--json", str(trace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "ended by signal 9" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_may_not_is_given_programs_and_nothing_else(tmp_path: Path, program: Path) -> None:
    secret, core, fifo = tmp_path / "secret", tmp_path / "core", tmp_path / "fifo"
    secret.write_text("secret")
    head = program.read_bytes()[:16]
    core.write_bytes(head + b"\4\0" + bytes(100))
    os.mkfifo(fifo)
    os.close(opening.open_elf(program))
    for path in (secret, core, fifo, Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="is no"):
            opening.open_elf(path)
