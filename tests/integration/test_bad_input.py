"""What cannot be done: one paragraph that says why and what to do, our own exit codes, nothing harmed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.cli.main import main
from clew.code import reader
from clew.errors import TraceError, UsageError
from clew.flow.follow import Following
from clew.trace.kept_frames import KeptFrames
from clew.trace.reader import Trace
from clew.trace.spool import FORMAT_VERSION, META
from tests.support.clew_command import CLEW, NO_PRIVILEGE, clew, complaint
from tests.support.prerequisites import require

NOBODY = 65534
# An ordinary user, who may look at files all the same: Python itself may lie in root's home.
AS_NOBODY = (
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
)
NO_SUCH_PID = 1 << 30
SMALL = "3m"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """An earlier recording, which no mistake may cost."""
    require("ptrace")
    folder = tmp_path / "trace"
    done = clew("record", "-q", "--engine", "ptrace", "-o", folder, "--", "true")
    assert done.returncode == 0, complaint(done)
    return folder


def _fails(status: int, *words: str | Path) -> str:
    """What it says; stdout must be empty, and the paragraph one."""
    done = clew(*words)
    said = complaint(done)
    assert done.returncode == status, said
    assert done.stdout == b""
    assert said.startswith("clew: ")
    assert [line for line in said.splitlines() if line.startswith("clew: ")] == said.splitlines()[:1]
    return said


def _whole(trace: Path) -> bool:
    return Trace(trace).finished and clew("show", trace).returncode == 0


@pytest.mark.parametrize("verb", ["record", "follow"])
@pytest.mark.parametrize(
    ("status", "command", "says"),
    [
        (127, ["no-such-program-anywhere"], "there is no such program"),
        (127, ["./no/such/file"], "there is no such program"),
        (127, [""], "there is no such program"),
        (126, ["/etc/passwd"], "Permission denied"),
        (126, ["/tmp"], "Is a directory"),
    ],
)
def test_a_command_that_cannot_be_run(
    verb: str, status: int, command: list[str], says: str, trace: Path
) -> None:
    assert says in _fails(status, verb, "-o", trace, "--", *command)
    assert _whole(trace)


@pytest.mark.requires("root", "bpf")
@pytest.mark.parametrize(
    ("status", "text", "says"),
    [(126, "echo no first line\n", "#!/bin/sh"), (127, "#!/no/such/interpreter\n", "interpreter")],
)
def test_a_script_that_the_kernel_refuses(status: int, text: str, says: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(text)
    script.chmod(0o755)
    said = _fails(status, "record", "-o", tmp_path / "trace", "--", script)
    assert str(script) in said
    assert says in said
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("verb", ["record", "follow"])
def test_no_command_at_all(verb: str, trace: Path) -> None:
    assert "after --" in _fails(125, verb, "-o", trace)
    assert _whole(trace)


@pytest.mark.parametrize("pid", [NO_SUCH_PID, 0, -1])
def test_a_process_that_is_gone(pid: int, trace: Path) -> None:
    assert f"There is no process {pid}" in _fails(125, "record", "-p", str(pid), "-o", trace)
    assert _whole(trace)


def test_a_thread_is_not_called_gone() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with pytest.raises(UsageError, match=f"is a thread of process {os.getpid()}"):
            main(["record", "-p", str(other.native_id)])
    finally:
        done.set()
        other.join()


@pytest.mark.parametrize("words", [("doctor",), ("doctor", "--json")])
def test_a_reader_of_doctor_that_has_had_enough_is_no_lack_of_an_engine(words: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run([*CLEW, *words], stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("rule", "caret_at", "says"),
    [
        ("exce:true", 0, "Did you mean exec:true?"),
        ("exec:", 5, "exec:NAME"),
        ("exec:true,argvv=1", 10, "argv=1"),
        ("true", 0, "exec:true"),
        ("!exec:true", 0, "names nothing to reach"),
        ("hop:T#1", 0, "exec:NAME"),
    ],
)
@pytest.mark.parametrize("verb", ["follow", "show"])
def test_a_rule_that_does_not_parse(verb: str, rule: str, caret_at: int, says: str, trace: Path) -> None:
    ran = trace.parent / "ran"
    words = ["-o", trace, "--", "touch", ran] if verb == "follow" else [trace]
    lines = _fails(125, verb, "--until", rule, *words).splitlines()
    assert [lines[1].strip(), lines[2].index("^") - lines[1].index(rule)] == [rule, caret_at]
    assert says in "\n".join(lines)
    assert not ran.exists()
    assert _whole(trace)


def test_a_rule_in_a_trace_that_means_nothing_is_no_fault_of_its_reader(trace: Path) -> None:
    meta = json.loads((trace / META).read_text())
    (trace / META).write_text(json.dumps({**meta, "until": "future:rule"}))
    assert clew("show", trace).returncode == 0


@pytest.mark.parametrize(("glob", "says"), [("/usr/bin/cat", "is a path"), ("a" * 200, "too long")])
def test_a_program_to_leave_out_that_cannot_be_compared(glob: str, says: str, trace: Path) -> None:
    assert says in _fails(125, "record", "--exclude", glob, "-o", trace, "--", "true")
    assert _whole(trace)


@pytest.mark.parametrize("verb", ["record", "follow"])
@pytest.mark.parametrize("place", ["missing/trace", "file/trace", "file", "full", "link"])
def test_an_output_that_cannot_be(verb: str, place: str, trace: Path) -> None:
    (trace.parent / "file").write_text("mine")
    (trace.parent / "full").mkdir()
    (trace.parent / "full" / "notes.txt").write_text("mine")
    (trace.parent / "link").symlink_to(trace)
    ran = trace.parent / "ran"
    said = _fails(125, verb, "-o", trace.parent / place, "--", "touch", ran)
    assert "-o" in said
    assert not ran.exists()
    assert (trace.parent / "file").read_text() == "mine"
    assert (trace.parent / "full" / "notes.txt").read_text() == "mine"
    assert _whole(trace)


def test_words_that_mean_nothing() -> None:
    assert "Did you mean `clew follow`?" in _fails(125, "folow", "--", "true")
    for words in (
        ("show",),
        ("record", "--scope", "moon"),
        ("follow", "-p", "abc"),
        ("show", "--nonsense", "T"),
    ):
        done = clew(*words)
        assert done.returncode == 125
        assert "usage: clew" in _usage(done)


def _usage(done: subprocess.CompletedProcess[bytes]) -> str:
    """What argparse said, which is no paragraph of ours."""
    said = done.stderr.decode()
    assert "Traceback" not in said
    assert done.stdout == b""
    return said


def test_a_trace_of_a_newer_version(trace: Path) -> None:
    meta = json.loads((trace / META).read_text())
    (trace / META).write_text(json.dumps({**meta, "format": FORMAT_VERSION + 1}))
    for verb in ("show", "recover"):
        assert "newer" in _fails(125, verb, trace)


def test_no_trace_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (
        tmp_path / "missing",
        tmp_path / "empty",
        Path("/etc/passwd"),
        Path("/dev/null"),
        Path("/dev/zero"),
    ):
        assert "is not a trace" in _fails(125, "show", place)
        assert "holds nothing of a recording" in _fails(125, "recover", place)


def test_a_full_stdout_is_said(trace: Path) -> None:
    for words in (("show", trace), ("show", trace, "--json")):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run([*CLEW, *words], stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 125
        assert "No space left on device" in complaint(done)


def test_a_reader_that_has_had_enough_is_no_error(trace: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run([*CLEW, "show", trace], stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files(closed: str, tmp_path: Path) -> None:
    require("ptrace")
    script = f'"$@" {closed}'
    folder = tmp_path / "trace"
    command = ("sh", "-c", script, "sh", *CLEW, "follow", "--engine", "ptrace", "-o", folder, "--")
    done = subprocess.run([*command, "sh", "-c", "echo hi"], capture_output=True, check=False)
    assert done.returncode == 0, complaint(done)
    assert done.stdout == (b"" if ">&-" in closed.replace("2>&-", "") else b"hi\n")
    assert Trace(folder).finished


# --- a full disk -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    require("root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        reader.stop()  # a fork of ours: it has mapped what we have
        # Detached at once, and gone when the last process of ours that maps something has ended.
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.requires("root", "bpf")
def test_a_disk_that_fills_up_does_not_touch_the_command(small_disk: Path, tmp_path: Path) -> None:
    trace = small_disk / "trace"
    fill = f"head -c {SMALL} /dev/zero > {small_disk}/fill 2> /dev/null"
    work = "i=0; while [ $i -lt 300 ]; do echo $i | cat; i=$((i+1)); done"
    kept = f"until [ -s {trace}/events.spool ]; do :; done"
    script = f"echo hi | cat > /dev/null; {kept}; {fill}; {work}; exit 5"
    done = clew("record", "--scope", "tree", "-o", trace, "--", "sh", "-c", script)
    said = complaint(done)
    assert done.returncode == 125
    assert "No space left on device" in said
    assert "exited with status 5" in said
    assert f"clew show {trace}" in said
    assert done.stdout.split() == [str(n).encode() for n in range(300)]
    shown = clew("show", trace, "--json")
    assert shown.returncode == 0, complaint(shown)
    (message, *_) = [hop for hop in json.loads(shown.stdout)["hops"] if hop["kind"] == "message"]
    assert (message["bytes"], message["to"]["comm"]) in [(3, "cat"), (3, "sh")]
    assert "No space left" in _fails(125, "recover", trace)
    (small_disk / "fill").unlink()
    assert clew("recover", trace).returncode == 0
    assert Trace(trace).finished


@pytest.mark.requires("root", "bpf")
def test_a_disk_that_is_full_already(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(
        ["sh", "-c", f"head -c {SMALL} /dev/zero > {small_disk}/fill"], capture_output=True, check=False
    )
    ran = tmp_path / "ran"
    assert "No space left on device" in _fails(125, "record", "-o", small_disk / "trace", "--", "touch", ran)
    assert not ran.exists()


@pytest.mark.requires("root", "bpf")
def test_no_room_for_the_backtraces_leaves_a_trace_that_can_be_shown(
    small_disk: Path, tmp_path: Path
) -> None:
    trace = small_disk / "trace"
    assert (
        clew("record", "-q", "--scope", "tree", "-o", trace, "--", "sh", "-c", "echo hi | cat").returncode
        == 0
    )
    fill = f"head -c {SMALL} /dev/zero > {small_disk}/fill"
    subprocess.run(["sh", "-c", fill], capture_output=True, check=False)
    found = Following(Trace(trace))
    found.flow()
    with pytest.raises(TraceError, match="No space left"):
        found.keep(KeptFrames(trace))
    assert clew("show", trace).returncode == 0


# --- without privileges ------------------------------------------------------------------------------


@pytest.mark.requires("root")
@pytest.mark.parametrize("prefix", [AS_NOBODY, NO_PRIVILEGE], ids=["nobody", "root-without-capabilities"])
def test_who_may_not_use_bpf_is_told_what_to_do(prefix: tuple[str, ...], tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    done = clew("record", "--engine", "bpf", "-o", tmp_path / "trace", "--", "touch", ran, prefix=prefix)
    said = complaint(done)
    assert done.returncode == 126
    assert "bpf engine" in said
    assert "root" in said
    assert "--engine ptrace" in said
    assert not ran.exists()
    assert not (tmp_path / "trace").exists()


@pytest.mark.requires("root", "ptrace")
def test_who_may_not_use_bpf_is_given_ptrace_and_told_so(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    home = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = clew("follow", "--", "sh", "-c", "echo hi | cat", prefix=AS_NOBODY, environment=home)
    said = complaint(done)
    assert done.returncode == 0, said
    assert "Recording with ptrace" in said
    assert done.stdout == b"hi\n"
    quiet = clew("follow", "-q", "--", "true", prefix=AS_NOBODY, environment=home)
    assert b"Recording with ptrace" not in quiet.stderr


@pytest.mark.requires("root", "ptrace")
def test_in_a_pid_namespace_bpf_is_not_taken(tmp_path: Path) -> None:
    inside = ("unshare", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("the kernel refuses: pid namespaces")
    refused = clew("record", "--engine", "bpf", "-o", tmp_path / "trace", "--", "true", prefix=inside)
    assert refused.returncode == 126
    assert "pid namespace" in complaint(refused)
    done = clew("follow", "--json", "--", "sh", "-c", "echo hi | cat >&2", prefix=inside)
    assert [hop["bytes"] for hop in json.loads(done.stdout)["hops"] if hop["kind"] == "message"] == [3]


# --- ^C ----------------------------------------------------------------------------------------------


def test_an_interrupt_while_clew_begins_is_no_traceback() -> None:
    finder = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'clew.cli.main': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)\n"
        "from clew.cli.entry import run\n"
        "run()\n"
    )
    done = subprocess.run([sys.executable, "-c", finder], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_an_option_of_no_command_is_named() -> None:
    done = clew("--nonsense")
    assert done.returncode == 125
    assert "--nonsense" in complaint(done)
