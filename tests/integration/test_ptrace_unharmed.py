"""Whatever becomes of clew, the traced program goes on as if nothing had been there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clew.errors import EngineError
from clew.model.event import EventKind
from clew.trace.reader import Trace
from tests.support.bounded import until
from tests.support.tracing import Lines, compiled, lines_pipe, record, status_field

pytestmark = pytest.mark.requires("compiler")

# Bytes go round between two threads and each is checked; every now and then a child runs.  A call that fails
# for no reason of the program's own is told, and so is the end.  WORK ROUNDS; "WORK ROUNDS wait" begins to
# count the rounds only when its stdin has come to its end.
WORK = """
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#define MUST(did) \\
    do { \\
        if (!(did)) { \\
            dprintf(1, "broken at %d: %s\\n", __LINE__, strerror(errno)); \\
            _exit(1); \\
        } \\
    } while (0)
static int there[2], back[2];
static void *echo(void *unused) {
    char c;
    while (read(there[0], &c, 1) == 1)
        MUST(write(back[1], &c, 1) == 1);
    return unused;
}
static int stdin_is_open(void) {
    struct pollfd in = {.fd = 0, .events = POLLIN};
    return poll(&in, 1, 0) == 0;
}
int main(int argc, char **argv) {
    pthread_t thread;
    int rounds = 0, counting = argc == 2;
    MUST(argc <= 3 && !pipe(there) && !pipe(back));
    MUST(!pthread_create(&thread, NULL, echo, NULL));
    for (int i = 0; rounds < atoi(argv[1]); i++) {
        char c = (char)i, d = 0;
        int status;
        counting = counting || !stdin_is_open();
        rounds += counting;
        MUST(write(there[1], &c, 1) == 1);
        MUST(read(back[0], &d, 1) == 1 && c == d);
        if (i % 50)
            continue;
        pid_t child = fork();
        MUST(child >= 0);
        if (!child) {
            execl("/bin/true", "true", NULL);
            _exit(1);
        }
        MUST(waitpid(child, &status, 0) == child && status == 0);
    }
    dprintf(1, "done\\n");
    return 0;
}
"""

REPOSITORY = Path(__file__).parents[2]  # where python -c finds ``tests``, wherever this process is
RECORDER = """
import sys
from pathlib import Path
from tests.support.tracing import record
sys.stderr.close()
record(Path(sys.argv[1]), *sys.argv[3:], filtered=sys.argv[2] == "filter")
"""


def _recorder(folder: Path, mode: str, stdin: int, given: int, *command: str | Path) -> int:
    """A process that records ``command``, whose stdout is ``given``; forked, since a hundred are made."""
    pid = os.fork()
    if pid == 0:
        try:
            quiet = os.open(os.devnull, os.O_RDWR)
            for fd, stands_for in ((stdin, 0), (given, 1), (quiet, 2)):
                os.dup2(fd, stands_for)
            record(folder, *command, filtered=mode == "filter")
            os._exit(0)
        except EngineError:
            os._exit(1)
        finally:
            os._exit(2)
    return pid


@contextmanager
def _recorded_work(folder: Path, mode: str, rounds: int) -> Iterator[tuple[int, Lines, Callable[[], None]]]:
    """WORK under a recorder: the recorder's pid, what WORK says, and what makes it count its rounds."""
    waiting, waited_for = os.pipe()  # close-on-exec, but the recorder is a fork
    with lines_pipe() as (lines, given), os.fdopen(waited_for, "wb") as begin:
        clew = _recorder(folder, mode, waiting, given, compiled(WORK), str(rounds), "wait")
        os.close(waiting)
        os.close(given)
        yield clew, lines, begin.close


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["filter", "no-filter"])
def test_kill_9_of_clew_at_random_points(mode: str, tmp_path: Path) -> None:
    record(tmp_path, "true")  # so that the tracer is built
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for turn in range(50):
        folder = tmp_path / str(turn)
        folder.mkdir()
        events = folder / "trace" / "events.spool"
        with _recorded_work(folder, mode, 600) as (clew, lines, begin):
            # From its first event on, at a moment of chance.
            until(lambda at=events: at.exists() and at.stat().st_size, what="an event")  # type: ignore[misc]
            time.sleep(chance.random() * 0.05)
            os.kill(clew, signal.SIGKILL)
            os.waitpid(clew, 0)
            begin()
            assert lines.next() == b"done", f"seed {seed}, turn {turn}"
            assert lines.next() == b"", f"seed {seed}, turn {turn}: somebody still holds the program's stdout"
        _is_readable(Trace(folder / "trace"))


def _is_readable(trace: Trace) -> None:
    assert not trace.finished
    assert {int(kind) for kind in trace.events["kind"]} <= set(EventKind)
    assert sum(life.kind == EventKind.EXECED for life in trace.lives) >= 1


SERVES = """
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
/* A daemon: answers each connection with its pid, for as long as it lives. */
int main(int argc, char **argv) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), ready[2];
    char c;
    snprintf(name.sun_path, sizeof name.sun_path, "%s", argv[argc - 1]);
    if (bind(listener, (struct sockaddr *)&name, sizeof name) || listen(listener, 8) || pipe(ready))
        return 1;
    if (fork())
        return read(ready[0], &c, 1) != 1;
    alarm(60);
    setsid();
    if (write(ready[1], "r", 1) != 1)
        return 1;
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            return errno;
        dprintf(client, "%d\\n", getpid());
        close(client);
    }
}
"""


def _ask(path: Path) -> int:
    import socket

    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        return int(client.recv(32))


def test_a_daemon_lives_on_and_its_tracer_ends_with_it(tmp_path: Path) -> None:
    name = tmp_path / "socket"
    outcome = record(tmp_path, compiled(SERVES), name).outcome
    assert outcome.wait_status == 0
    assert any("lives on" in note for note in outcome.notes)
    daemon = _ask(name)
    tracer = int(status_field(daemon, "TracerPid"))
    assert tracer
    for _ in range(20):
        assert _ask(name) == daemon
    os.kill(daemon, signal.SIGTERM)
    until(lambda: status_field(tracer, "State")[:1] in ("", "Z"), what="the tracer's end")


def test_without_the_filter_a_daemon_is_let_go(tmp_path: Path) -> None:
    name = tmp_path / "socket"
    outcome = record(tmp_path, compiled(SERVES), name, filtered=False).outcome
    assert (outcome.wait_status, outcome.notes) == (0, [])
    daemon = _ask(name)
    until(lambda: status_field(daemon, "TracerPid") == "0", what="nobody traces it")
    assert status_field(daemon, "NoNewPrivs") == "0"
    os.kill(daemon, signal.SIGTERM)


def _busy(given: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([compiled(WORK), "100000"], stdout=given)


def test_attach_and_let_go(tmp_path: Path) -> None:
    with lines_pipe() as (_, given), _busy(given) as program:
        until(lambda: int(status_field(program.pid, "Threads") or 0) > 1, what="two threads")
        seen = tmp_path / "trace" / "events.spool"
        done = record(
            tmp_path,
            pids=[program.pid],
            stopping=lambda: seen.exists() and seen.stat().st_size > 100 * 72,
        )
        threads = {life.tid for life in done.lives if life.pid == program.pid}
        assert len(threads) >= 2
        assert {int(tid) for tid in done.events(EventKind.SEND, EventKind.RECV)["tid"]} == threads
        tasks = Path(f"/proc/{program.pid}/task")
        until(
            lambda: all(_tracer(path) == "0" for path in tasks.glob("*/status")), what="every thread let go"
        )
        assert program.poll() is None
        assert status_field(program.pid, "State")[0] in "RSD"
        program.kill()


def _tracer(status: Path) -> str:
    try:
        return status.read_text(errors="replace").partition("TracerPid:")[2].split()[0]
    except OSError:
        return "0"


def test_kill_9_of_clew_lets_an_attached_process_go(tmp_path: Path) -> None:
    with lines_pipe() as (_, given), _busy(given) as program:
        script = RECORDER.replace("*sys.argv[3:], filtered", "pids=[int(sys.argv[3])], filtered")
        with subprocess.Popen(
            [sys.executable, "-c", script, tmp_path, "no-filter", str(program.pid)], cwd=REPOSITORY
        ) as clew:
            until(lambda: status_field(program.pid, "TracerPid") not in ("", "0"), what="attached")
            clew.kill()
        until(lambda: status_field(program.pid, "TracerPid") == "0", what="let go")
        assert program.poll() is None
        program.kill()


def test_a_stop_asked_for_ends_the_recording_and_not_the_command(tmp_path: Path) -> None:
    with lines_pipe() as (lines, given):
        saved = os.dup(1)
        os.dup2(given, 1)
        os.close(given)
        try:
            events = tmp_path / "trace" / "events.spool"
            outcome = record(
                tmp_path,
                compiled(WORK),
                "5000",
                stopping=lambda: events.exists() and events.stat().st_size > 0,
            ).outcome
        finally:
            os.dup2(saved, 1)
            os.close(saved)
        assert outcome.wait_status is None
        assert lines.next() == b"done"
        assert Lines(lines.fd).next() == b""


def test_children_of_an_attached_process_are_recorded_too(tmp_path: Path) -> None:
    script = "echo ready; read -r line; echo hello | cat >/dev/null; true"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        assert shell.stdin is not None
        assert shell.stdout.readline() == b"ready\n"
        stdin, pid = shell.stdin, shell.pid
        asked: list[bool] = []

        def stopping() -> bool:
            if not asked and status_field(pid, "TracerPid") not in ("", "0"):
                asked.append(True)
                stdin.write(b"go\n")
                stdin.flush()
            return False

        done = record(tmp_path, pids=[pid], stopping=stopping)
        assert shell.wait() == 0
    execs = [life.blob.rpartition(b"/")[2] for life in done.lives if life.kind == EventKind.EXECED and life.t]
    assert execs == [b"cat"]
    assert done.outcome.wait_status is None
    sent, taken = (done.events(kind) for kind in (EventKind.SEND, EventKind.RECV))
    assert 6 in sent["ret"]
    assert 6 in taken["ret"]


def test_a_stopped_process_stays_stopped_when_it_is_let_go(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as program:
        program.send_signal(signal.SIGSTOP)
        until(lambda: status_field(program.pid, "State")[0] == "T", what="stopped")

        def attached_and_stopped() -> bool:
            return (
                status_field(program.pid, "TracerPid") != "0" and status_field(program.pid, "State")[0] == "t"
            )

        record(tmp_path, pids=[program.pid], stopping=attached_and_stopped)
        until(lambda: status_field(program.pid, "TracerPid") == "0", what="let go")
        until(lambda: status_field(program.pid, "State")[0] == "T", what="stopped as before")
        program.send_signal(signal.SIGCONT)
        until(lambda: status_field(program.pid, "State")[0] == "S", what="running")
        program.kill()


def test_kill_9_of_the_tracer_without_the_filter(tmp_path: Path) -> None:
    with lines_pipe() as (lines, given), _busy(given) as program:
        os.close(given)
        script = RECORDER.replace("*sys.argv[3:], filtered", "pids=[int(sys.argv[3])], filtered")
        with subprocess.Popen(
            [sys.executable, "-c", script, tmp_path, "no-filter", str(program.pid)], cwd=REPOSITORY
        ) as clew:
            tracer = until(lambda: int(status_field(program.pid, "TracerPid") or 0), what="attached")
            os.kill(tracer, signal.SIGKILL)
            assert clew.wait(20) == 1
        until(lambda: status_field(program.pid, "TracerPid") == "0", what="let go")
        assert program.poll() is None
        program.kill()
        assert lines.next() == b""


def _tracer_of_the_command(folder: Path) -> int:
    """Once the command that is recorded there has made its first event."""
    events = folder / "trace" / "events.spool"
    until(lambda: events.exists() and events.stat().st_size, what="an event")
    root = Trace(folder / "trace").lives[0].pid
    return int(status_field(root, "TracerPid"))


@pytest.mark.timeout(300)
def test_kill_9_of_the_tracer_at_random_points(tmp_path: Path) -> None:
    """With the filter in force, a call made without a tracer would fail: the heir leaves no such moment."""
    record(tmp_path, "true")  # so that the tracer is built
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for turn in range(20):
        folder = tmp_path / str(turn)
        folder.mkdir()
        with _recorded_work(folder, "filter", 600) as (clew, lines, begin):
            tracer = _tracer_of_the_command(folder)
            time.sleep(chance.random() * 0.05)
            os.kill(tracer, signal.SIGKILL)
            begin()
            assert os.waitstatus_to_exitcode(os.waitpid(clew, 0)[1]) == 1
            assert lines.next() == b"done", f"seed {seed}, turn {turn}"
            assert lines.next() == b"", f"seed {seed}, turn {turn}: somebody still holds the program's stdout"
        _is_readable(Trace(folder / "trace"))


COUNTS = """
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
/* Counts in a file, so that whoever looks sees whether it runs. */
int main(int argc, char **argv) {
    int fd = open(argv[argc - 1], O_RDWR | O_CREAT, 0600);
    volatile unsigned long *count;
    if (ftruncate(fd, sizeof *count))
        return 1;
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    alarm(60);
    for (;;)
        ++*count;
}
"""


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSEGV])
def test_a_daemon_and_a_stopped_one_outlive_the_tracer(sig: signal.Signals, tmp_path: Path) -> None:
    """The heir takes both over, as they are; it ends with the last of them."""
    name, count = tmp_path / "socket", tmp_path / "count"
    script = f"{compiled(COUNTS)} {count} & echo $! >{tmp_path}/pid; exec {compiled(SERVES)} {name}"
    record(tmp_path, "sh", "-c", script)
    daemon, counter = _ask(name), int((tmp_path / "pid").read_text())
    until(lambda: count.exists() and any(count.read_bytes()), what="counting")
    os.kill(counter, signal.SIGSTOP)
    until(lambda: status_field(counter, "State")[0] == "t", what="stopped")
    counted = count.read_bytes()
    tracer = int(status_field(daemon, "TracerPid"))
    heir = int(status_field(tracer, "PPid"))
    assert status_field(tracer, "TracerPid") == str(heir)
    os.kill(tracer, signal.SIGSTOP)
    assert _ask(name) == daemon, "a stopped tracer would stop all"
    os.kill(tracer, sig)
    for pid in (daemon, counter):
        until(lambda pid=pid: status_field(pid, "TracerPid") == str(heir), what="taken over")  # type: ignore[misc]
    for _ in range(20):
        assert _ask(name) == daemon
    # Between the two tracers' stops it is runnable for a moment, but must not run an instruction of its own.
    until(lambda: status_field(counter, "State")[0] == "t", what="stopped as before")
    assert count.read_bytes() == counted
    os.kill(counter, signal.SIGCONT)
    until(lambda: count.read_bytes() != counted, what="counting again")
    os.kill(counter, signal.SIGTERM)
    os.kill(daemon, signal.SIGTERM)
    until(lambda: status_field(heir, "State")[:1] in ("", "Z"), what="the heir's end")


def test_a_stop_that_the_tracer_has_not_seen_outlives_it(tmp_path: Path) -> None:
    """The heir freezes all to take them over: who was to be stopped anyhow stays so, the others run."""
    pids = tmp_path / "pids"
    start = f"{compiled(COUNTS)} {tmp_path}/count$n & echo $! >>{pids}"
    record(tmp_path, "sh", "-c", f"for n in 1 2 3 4; do {start}; done")
    counters = [int(pid) for pid in pids.read_text().split()]
    counts = [tmp_path / f"count{n}" for n in range(1, 5)]
    until(lambda: all(count.exists() and any(count.read_bytes()) for count in counts), what="all counting")
    tracer = int(status_field(counters[0], "TracerPid"))
    heir = int(status_field(tracer, "PPid"))
    stopped, free = counters[:3], counters[3]
    # A heir that is stopped leaves the tracer in the stop of whatever signal it gets next.
    os.kill(heir, signal.SIGSTOP)
    until(lambda: status_field(heir, "State")[0] == "T", what="the heir stopped")
    os.kill(tracer, signal.SIGWINCH)
    until(lambda: status_field(tracer, "State")[0] == "t", what="the tracer stopped")
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    os.kill(tracer, signal.SIGKILL)
    os.kill(heir, signal.SIGCONT)
    until(lambda: status_field(heir, "Name") == "clew-tracer" and status_field(heir, "State")[0] == "S",
          what="the heir has taken over")  # fmt: skip
    for pid in stopped:
        until(lambda pid=pid: status_field(pid, "State")[0] == "t", what="stopped as it was told")  # type: ignore[misc]
    until(lambda: status_field(free, "State")[0] == "R", what="not stopped, as nobody asked for it")
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
        until(lambda pid=pid: status_field(pid, "State")[0] == "R", what="running again")  # type: ignore[misc]
    for pid in counters:
        os.kill(pid, signal.SIGTERM)
    until(lambda: status_field(heir, "State")[:1] in ("", "Z"), what="the heir's end")


ORPHANED_GROUP = """
import os, signal, subprocess, sys, time
os.setsid()
hups = []
signal.signal(signal.SIGHUP, lambda *_: hups.append(1))
stopped = subprocess.Popen(["sleep", "60"])
os.kill(stopped.pid, signal.SIGSTOP)
os.waitpid(stopped.pid, os.WUNTRACED)
clew = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(clew.stdout.readline().decode().strip(), flush=True)
sys.stdin.readline()
clew.communicate()
state = open(f"/proc/{stopped.pid}/stat").read().rpartition(")")[2].split()[0]
os.kill(stopped.pid, signal.SIGKILL)
print(len(hups), state)
"""


def test_kill_9_of_the_tracer_hangs_up_on_nobody(tmp_path: Path) -> None:
    """In a group that hangs on no shell (cron, CI), where one is stopped: none gets SIGHUP."""
    code = "from clew.cli.main import run; run()"
    follow = (
        sys.executable,
        "-c",
        code,
        "record",
        "--engine",
        "ptrace",
        "-q",
        "-o",
        str(tmp_path / "T"),
        "--",
    )
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANED_GROUP, *follow, "sh", "-c", "echo $$; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as group:
        assert group.stdin is not None and group.stdout is not None
        command = int(group.stdout.readline())
        tracer = int(status_field(command, "TracerPid"))
        os.kill(tracer, signal.SIGKILL)
        until(lambda: status_field(command, "TracerPid") not in ("0", str(tracer)), what="the heir")
        said, _ = group.communicate(b"\\n", timeout=60)
    assert said.split() == [b"0", b"T"]
