"""Every kind of stop that ptrace(2) knows, and the programs that are hard to trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clew.errors import CommandNotFound, PermissionMissing, TaskGone
from clew.model.event import EventKind, LifeFlag
from tests.support.bounded import until
from tests.support.tracing import compiled, record, status_field

pytestmark = pytest.mark.requires("compiler")

FILTERED = pytest.mark.parametrize("filtered", [True, False], ids=["filter", "no-filter"])


def _sh(script: str) -> tuple[str, str, str]:
    return ("sh", "-c", script)


@FILTERED
@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 7", 7 << 8), ("kill -TERM $$", signal.SIGTERM), ("kill -KILL $$", signal.SIGKILL), ("true", 0)],
)
def test_the_commands_status_is_told(script: str, status: int, filtered: bool, tmp_path: Path) -> None:
    outcome = record(tmp_path, *_sh(script), filtered=filtered).outcome
    assert outcome.wait_status is not None
    assert outcome.wait_status & ~0x80 == status  # 0x80: a core was dumped
    assert not outcome.lost


@FILTERED
def test_the_root_is_told_from_its_exec_on(filtered: bool, tmp_path: Path) -> None:
    done = record(tmp_path, "true", filtered=filtered)
    first = done.lives[0]
    assert (first.kind, first.pid) == (EventKind.EXECED, done.outcome.root_pid)
    assert first.flags & LifeFlag.ROOT
    last = done.lives[-1]
    assert (last.kind, last.flags & LifeFlag.GROUP_DEAD) == (EventKind.EXITED, LifeFlag.GROUP_DEAD)


@pytest.mark.parametrize("command", ["no-such-program-anywhere", "/etc/passwd", "/tmp"])
def test_a_command_that_cannot_run(command: str, tmp_path: Path) -> None:
    with pytest.raises(CommandNotFound):
        record(tmp_path, command)


def test_a_command_that_exec_refuses(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(CommandNotFound, match="No such file"):
        record(tmp_path, broken)


@FILTERED
def test_a_group_stop_lasts_until_sigcont(filtered: bool, tmp_path: Path) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    seen: list[str] = []

    def let_go() -> None:
        pid = int(fifo.read_text())
        # Had the tracer not listened, it would not be stopped, or never see the SIGCONT.
        until(lambda: all(status_field(pid, "State")[:1] in ("t", "T") for _ in range(9)), what="stopped")
        seen.append(status_field(pid, "State")[:1])
        # More than once: what looked stopped may have been in a call, before its SIGSTOP.
        until(lambda: _continued(pid), what="gone")

    helper = threading.Thread(target=let_go, daemon=True)
    helper.start()
    done = record(tmp_path, *_sh(f"echo $$ >{fifo}; kill -STOP $$; exit 5"), filtered=filtered)
    helper.join(10)
    assert seen in (["t"], ["T"])
    assert done.outcome.wait_status == 5 << 8


def _continued(pid: int) -> bool:
    """Whether the process has ended; if not, it is sent SIGCONT."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return True
    return status_field(pid, "State")[:1] in ("", "Z")


BLOCKS = """
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static volatile int caught;
static void on_signal(int sig) { caught += sig; }
int main(void) {
    sigset_t all, pending;
    sigfillset(&all);
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, SIG_IGN);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int i = 0; i < 3; i++)
        kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR2);
    sigpending(&pending);
    if (!sigismember(&pending, SIGUSR1) || caught)
        return 1;
    sigemptyset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    return caught == SIGUSR1 ? 0 : 2;
}
"""


@FILTERED
def test_blocked_and_ignored_signals_stay_so(filtered: bool, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(BLOCKS), filtered=filtered)
    assert done.outcome.wait_status == 0
    delivered = done.events(EventKind.SIGNALLED)
    assert delivered["nr"].tolist() == [signal.SIGUSR1]


TRACES = """
#include <errno.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    pid_t child = fork();
    int status;
    if (!child)
        _exit(ptrace(PTRACE_TRACEME, 0, 0, 0) == -1 && errno == EPERM ? 42 : 1);
    return waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 42 ? 0 : 1;
}
"""


def test_a_program_that_wants_to_trace_is_told_of(tmp_path: Path) -> None:
    outcome = record(tmp_path, compiled(TRACES)).outcome
    assert outcome.wait_status == 0
    assert any("asked to trace" in note for note in outcome.notes)


STATIC = """
#include <unistd.h>
int main(void) { int p[2]; char c = 1; return pipe(p) || write(p[1], &c, 1) != 1 || read(p[0], &c, 1) != 1; }
"""


@FILTERED
def test_a_static_program(filtered: bool, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(STATIC, "-static"), filtered=filtered)
    assert done.outcome.wait_status == 0
    assert done.events(EventKind.SEND, EventKind.RECV)["ret"].tolist() == [1, 1]
    assert all(done.trace.stack(int(i)) for i in done.events(EventKind.SEND)["stack"])


# fork (2), write (4) and exit (1) of 32-bit x86, where 4 is stat for a 64-bit program.
THIRTY_TWO = """
static long call(long nr, long a, long b, long c) {
    long ret;
    __asm__ volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
    return ret;
}
void _start(void) {
    long child = call(2, 0, 0, 0);
    if (child == 0) {
        call(4, 1, (long)"hello\\n", 6);
        call(1, 3, 0, 0);
    }
    call(7, child, 0, 0);
    call(1, child > 0 ? 9 : 1, 0, 0);
    for (;;)
        ;
}
"""


@FILTERED
def test_a_32_bit_program(filtered: bool, tmp_path: Path) -> None:
    try:
        program = compiled(THIRTY_TWO, "-m32", "-nostdlib", "-static", "-fno-pie", "-no-pie", "-O0")
    except subprocess.CalledProcessError as refused:
        pytest.skip(f"cc makes no 32-bit programs: {refused.stderr.decode()[:60]}")
    done = record(tmp_path, program, filtered=filtered)
    assert done.outcome.wait_status == 9 << 8
    kinds = [life.kind for life in done.lives]
    assert kinds.count(EventKind.FORKED) == 1
    assert kinds.count(EventKind.EXITED) == 2
    # Its calls have other numbers: they are not mistaken for those of a 64-bit program.
    assert len(done.events(EventKind.SEND, EventKind.RECV, EventKind.WAIT)) == 0


def test_a_filter_of_the_programs_own_still_rules(tmp_path: Path) -> None:
    source = """
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    int ends[2];
    if (pipe(ends) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &program))
        return 1;
    return write(ends[1], "x", 1) == -1 && errno == EXDEV ? 0 : 2;
}
"""
    assert record(tmp_path, compiled(source)).outcome.wait_status == 0


MANY_THREADS = """
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
static int ends[2];
static void *work(void *unused) { char c; return read(ends[0], &c, 1) == 1 ? unused : (void *)1; }
int main(int argc, char **argv) {
    int count = atoi(argv[argc - 1]), bad = 0;
    pthread_t threads[4096];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    if (pipe(ends))
        return 1;
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], &small, work, NULL))
            return 2;
    if (argc > 2 && read(0, argv[1], 1) != 1)
        return 3;
    for (int i = 0; i < count; i++)
        bad |= write(ends[1], "x", 1) != 1;
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(threads[i], &result);
        bad |= result != NULL;
    }
    return bad;
}
"""


@pytest.mark.timeout(300)
def test_thousands_of_threads(tmp_path: Path) -> None:
    count = 2000
    done = record(tmp_path, compiled(MANY_THREADS), str(count))
    assert done.outcome.wait_status == 0
    born = [life for life in done.lives if life.kind == EventKind.FORKED]
    assert len(born) == len({life.tid for life in born}) == count
    assert all(life.flags & LifeFlag.THREAD for life in born)
    assert sum(life.kind == EventKind.EXITED for life in done.lives) == count + 1
    assert len(done.events(EventKind.SEND)) == len(done.events(EventKind.RECV)) == count


# Twenty threads write, and one of them execs in the midst of it, five times; the last image says how it ends.
EXECS_AMONG_THREADS = """
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
static int ends[2], left;
static char **args;
static void *work(void *mine) {
    char c;
    for (int i = 0;; i++) {
        if (write(ends[1], "x", 1) != 1 || read(ends[0], &c, 1) != 1)
            _exit(1);
        if (mine && i == 20)
            execv(args[0], args);
    }
    return NULL;
}
int main(int argc, char **argv) {
    char rest[16], *next[] = {argv[0], rest, NULL};
    pthread_t threads[20];
    left = atoi(argv[argc - 1]);
    if (left == 0)
        return 7;
    rest[0] = (char)('0' + left - 1);
    rest[1] = 0;
    args = next;
    if (pipe2(ends, 02000000))
        return 2;
    /* While another thread execs, fork fails with EAGAIN (copy_fs(), kernel/fork.c). */
    for (long i = 0; i < 20; i++)
        for (int error; (error = pthread_create(&threads[i], NULL, work, i == 10 ? argv : NULL));)
            if (error != 11)
                return 3;
    pthread_exit(NULL);
}
"""


@FILTERED
def test_an_exec_while_other_threads_run(filtered: bool, tmp_path: Path) -> None:
    execs = 5
    done = record(tmp_path, compiled(EXECS_AMONG_THREADS), str(execs), filtered=filtered)
    assert done.outcome.wait_status == 7 << 8
    told = [life for life in done.lives if life.kind == EventKind.EXECED]
    assert len(told) == execs + 1
    assert all(life.tid == life.pid == done.outcome.root_pid for life in told)
    ended = [life for life in done.lives if life.kind == EventKind.EXITED]
    born = [life for life in done.lives if life.kind == EventKind.FORKED]
    assert len(ended) == len(born) + 1


@pytest.mark.timeout(300)
def test_thousands_of_threads_are_attached_to_and_let_go(tmp_path: Path) -> None:
    count = 2000
    with subprocess.Popen([compiled(MANY_THREADS), "wait", str(count)], stdin=subprocess.PIPE) as program:
        threads = until(lambda: status_field(program.pid, "Threads") == str(count + 1), what="all threads")
        assert threads
        tasks = list(Path(f"/proc/{program.pid}/task").iterdir())
        record(tmp_path, pids=[program.pid], stopping=lambda: _all_traced(tasks, traced=True))
        until(lambda: _all_traced(tasks, traced=False), what="every thread let go")
        program.communicate(b"x")
    assert program.returncode == 0


def _all_traced(tasks: list[Path], traced: bool) -> bool:
    return all(("\nTracerPid:\t0\n" in (task / "status").read_text()) is not traced for task in tasks)


KILLED_IN_CALL = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    for (int i = 0; i < 100; i++) {
        int ends[2], status;
        char c;
        if (pipe(ends))
            return 1;
        pid_t child = fork();
        if (!child)
            for (;;)
                if (write(ends[1], "x", 1) < 0)
                    _exit(1);
        if (read(ends[0], &c, 1) != 1 || kill(child, SIGKILL) || waitpid(child, &status, 0) != child)
            return 2;
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
            return 3;
        close(ends[0]);
        close(ends[1]);
    }
    return 0;
}
"""


@FILTERED
def test_tasks_that_die_while_they_are_stopped(filtered: bool, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(KILLED_IN_CALL), filtered=filtered)
    assert done.outcome.wait_status == 0
    assert sum(life.kind == EventKind.EXITED for life in done.lives) == 101
    killed = done.events(EventKind.SIGNALLED)
    assert killed["nr"].tolist().count(signal.SIGKILL) == 100


def test_a_program_left_out_is_not_recorded(tmp_path: Path) -> None:
    done = record(tmp_path, *_sh("cat /etc/hostname | cat >/dev/null; true"), exclude=[b"cat"])
    assert done.outcome.wait_status == 0
    execs = {life.blob.rpartition(b"/")[2] for life in done.lives if life.kind == EventKind.EXECED}
    assert b"cat" not in execs


def test_a_process_that_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    with pytest.raises(TaskGone):
        record(tmp_path, pids=[ended.pid])


@pytest.mark.requires("gdb")
def test_a_process_traced_already_is_refused(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as tracee:
        held = ["gdb", "-nx", "-q", "-p", str(tracee.pid)]
        with subprocess.Popen(held, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as gdb:
            until(lambda: status_field(tracee.pid, "TracerPid") == str(gdb.pid), what="gdb attached")
            with pytest.raises(PermissionMissing, match="traced already, by 'gdb'"):
                record(tmp_path, pids=[tracee.pid])
            assert status_field(tracee.pid, "TracerPid") == str(gdb.pid)
            gdb.kill()
        tracee.kill()


@FILTERED
def test_the_command_gets_its_signals_as_clew_was_given_them(filtered: bool, tmp_path: Path) -> None:
    """Ignored and blocked ones stay so (nohup), what Python and the tracer changed does not show."""
    script = """
import signal, sys
from pathlib import Path
from tests.support.tracing import record
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
print(record(Path(sys.argv[1]), "cat", "/proc/self/status", filtered=sys.argv[2] == "True").outcome)
"""
    words = [sys.executable, "-c", script, str(tmp_path), str(filtered)]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in told.splitlines() if line.startswith(("SigB", "SigI", "SigC"))]
    masks = {word: int(mask, 16) for word, mask in lines}
    assert masks == {
        "SigBlk:": 1 << signal.SIGUSR2 - 1,
        "SigIgn:": 1 << signal.SIGHUP - 1 | 1 << signal.SIGCHLD - 1,
        "SigCgt:": 0,
    }
    assert "wait_status=0" in told


def test_too_little_memory_is_said(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from clew.errors import EngineError
from tests.support.tracing import record
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    record(Path(sys.argv[1]), "true", buffer_bytes=1 << 31)
except EngineError as error:
    print(error.cause)
"""
    told = subprocess.run(
        [sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True
    )
    assert told.stdout == "The ptrace engine cannot start: Cannot allocate memory.\n"
