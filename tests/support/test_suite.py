"""What holds the suite itself together: run on small suites, which are killed, hang, or are started oddly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.bounded import until
from tests.support.descendants import descendants

TREE = Path(__file__).resolve().parents[2]
PLUGINS = ("warden", "dispositions", "last_resort")

DAEMON = """
import os, signal, subprocess, time
def test_it():
    os.mkfifo("ready")
    daemon = "exec env -i setsid sh -c 'echo $$ >>ready; exec sleep 60'"
    subprocess.run(["setsid", "sh", "-c", "(" + daemon + ") &"], check=True)
    with open("daemon", "w") as told:
        told.write(open("ready").read())
    os.rename("daemon", "pid")
    os.{then}
"""


@contextmanager
def _suite(
    folder: Path, text: str, *options: str, prefix: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "test_it.py").write_text(text)
    plugins = [word for name in PLUGINS for word in ("-p", f"tests.support.{name}")]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        "/dev/null",
        "-p",
        "no:cacheprovider",
        *plugins,
        *options,
    ]
    environment = {**os.environ, "PYTHONPATH": str(TREE), "CLEW_TEST_GRACE_S": "0.5"}
    with subprocess.Popen(
        [*prefix, *command, "--rootdir", folder, "test_it.py"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as suite:
        try:
            yield suite
        finally:
            suite.kill()


def _pid(folder: Path) -> int:
    until((folder / "pid").exists, 60, "the daemon runs")
    return int((folder / "pid").read_text())


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_suite_that_is_killed_leaves_nothing_behind(victim: int, workers: str, tmp_path: Path) -> None:
    with _suite(tmp_path, DAEMON.format(then="kill(os.getpid(), signal.SIGSTOP)"), "-n", workers) as suite:
        daemon = _pid(tmp_path)
        pids = [suite.pid, *descendants(suite.pid)]
        assert daemon in pids
        os.kill(pids[victim], signal.SIGKILL)
        assert suite.wait(60) == -signal.SIGKILL
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), what="the end of all")


def test_being_told_to_end_ends_all(tmp_path: Path) -> None:
    with _suite(tmp_path, DAEMON.format(then="kill(os.getpid(), signal.SIGSTOP)"), "-n", "1") as suite:
        daemon = _pid(tmp_path)
        suite.terminate()
        assert suite.wait(60) == -signal.SIGTERM
        until(lambda: not Path(f"/proc/{daemon}").exists(), what="the daemon's end")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_what_a_test_leaves_behind_is_named_and_killed(workers: str, tmp_path: Path) -> None:
    with _suite(tmp_path, DAEMON.format(then="getpid()"), "-n", workers) as suite:
        assert suite.stdout is not None
        said = suite.stdout.read().decode()
        assert suite.wait() == 0, said
        assert "left behind, and killed" in said and "sleep 60" in said
    assert not Path(f"/proc/{_pid(tmp_path)}").exists()


HANGS = {
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "deaf": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); time.sleep(600)",
    "in C": "m = C.create_string_buffer(64); [C.CDLL(None).pthread_mutex_lock(m) for _ in range(2)]",
    "after a failure": "signal.signal(signal.SIGALRM, signal.SIG_IGN); time.sleep(600)",
}


@pytest.mark.parametrize("how", HANGS)
def test_the_time_limit_ends_whatever_hangs(how: str, tmp_path: Path) -> None:
    text = (
        f"import ctypes as C, os, signal, time\ndef test_hangs():\n    {HANGS[how]}\ndef test_next(): pass\n"
    )
    with _suite(tmp_path, text, "-n", "1", "--timeout", "1") as suite:
        assert suite.stdout is not None
        said = suite.stdout.read().decode()
        assert suite.wait() == 1, said
    assert "1 failed, 1 passed" in said
    assert "test_hangs goes on past its time limit" in said
    assert "in test_hangs" in said or how == "deaf", "the stack is shown"


SIGNALS = """
import signal, subprocess
def test_signals():
    told = subprocess.check_output(["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"], text=True)
    assert [int(line.split()[1], 16) & 0x7fffffff for line in told.splitlines()] == [0, 0]
"""
DEAF = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_signals_are_as_the_tests_need_them(workers: str, tmp_path: Path) -> None:
    with _suite(tmp_path, SIGNALS, "-n", workers, prefix=(sys.executable, "-c", DEAF)) as suite:
        assert suite.stdout is not None
        said = suite.stdout.read().decode()
        assert suite.wait() == 0, said
