"""Facts that the kernel has and a recording must have too: connections, whether a call blocked, signals."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest

from clew.kernel.syscalls import number_of
from clew.model.event import ChannelType, EventFlag, EventKind
from tests.support.tracing import Recorded, compiled, record

pytestmark = pytest.mark.requires("root", "bpf", "compiler")

ENGINES = pytest.mark.parametrize("engine", ["bpf", "ptrace"])

CONNECTION = """
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    int local = argc > 1;
    if (local)
        strcpy(path.sun_path, argv[1]);
    struct sockaddr *name = local ? (void *)&path : (void *)&inet;
    socklen_t size = local ? sizeof path : sizeof inet;
    int listener = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    int client = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    int early = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    if (bind(listener, name, size) || getsockname(listener, name, &size))
        return 1;
    if (connect(early, name, size) == 0) /* nobody listens yet */
        return 2;
    if (listen(listener, 4) || connect(client, name, size))
        return 3;
    int served = accept(listener, NULL, NULL);
    return served < 0 || write(client, "hi", 2) != 2;
}
"""


def _one(done: Recorded, *kinds: EventKind) -> dict[str, int]:
    (found,) = [e for e in done.events(*kinds) if e["ret"] >= 0]
    return {name: int(found[name]) for name in found.dtype.names or ()}


@ENGINES
def test_both_ends_of_a_tcp_connection_are_told(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(CONNECTION), engine=engine)
    asked, taken, sent = (_one(done, k) for k in (EventKind.CONNECT, EventKind.ACCEPT, EventKind.SEND))
    assert {asked["channel"], taken["channel"]} == {ChannelType.TCP}
    assert asked["flags"] & EventFlag.PEER_INET
    assert (sent["chan"], sent["peer"]) == (asked["chan"], asked["peer"])
    ends = {life.chan: life for life in done.lives if life.kind == EventKind.SOCKET}
    client, served = ends[asked["chan"]], ends[taken["chan"]]
    assert (client.local, client.peer2) == (served.peer2, served.local)
    assert taken["peer"] == client.local
    assert client.namespaces[2] == served.namespaces[2] == Path("/proc/self/ns/net").stat().st_ino


@ENGINES
def test_both_ends_of_a_unix_connection_are_told(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(CONNECTION), str(tmp_path / "socket"), engine=engine)
    asked, taken = _one(done, EventKind.CONNECT), _one(done, EventKind.ACCEPT)
    assert {asked["channel"], taken["channel"]} == {ChannelType.UNIX}
    assert taken["peer"] == asked["chan"] and not taken["flags"] & EventFlag.PEER_SOCK
    # At the time of the connect nobody had accepted: its peer is known by the kernel's address only.
    assert asked["flags"] & EventFlag.PEER_SOCK
    (served,) = [e for e in done.lives if e.kind == EventKind.SOCKET and e.chan == taken["chan"]]
    assert served.peer == asked["peer"]


@ENGINES
def test_a_connect_that_fails_says_why(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(CONNECTION), engine=engine)
    refused = [int(e["ret"]) for e in done.events(EventKind.CONNECT) if e["ret"] < 0]
    assert refused == [-errno.ECONNREFUSED]


def _child(done: Recorded) -> int:
    """The one process that the command forked."""
    root = done.outcome.root_pid
    (found,) = [e.pid for e in done.lives if (e.kind, e.other_pid) == (EventKind.FORKED, root)]
    return found


BLOCKED = """
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static int asleep(int pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    int there = file && fgets(text, sizeof text, file) && strrchr(text, ')')[2] == 'S';
    fclose(file);
    return there;
}
int main(void) {
    int there[2], later[2];
    char byte;
    if (pipe(there) || pipe(later) || write(there[1], "x", 1) != 1)
        return 1;
    int child = fork();
    if (!child) {
        struct pollfd ready = {there[0], POLLIN, 0};
        if (poll(&ready, 1, -1) != 1 || read(there[0], &byte, 1) != 1) /* both are ready */
            _exit(1);
        struct pollfd empty = {later[0], POLLIN, 0};
        if (poll(&empty, 1, -1) != 1 || read(later[0], &byte, 1) != 1)
            _exit(1);
        _exit(0);
    }
    while (!asleep(child)) /* in its second poll: the calls before find what they want */
        usleep(1000);
    if (write(later[1], "x", 1) != 1)
        return 1;
    return wait(NULL) < 0;
}
"""


@ENGINES
def test_a_call_that_slept_is_told_from_one_that_did_not(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(BLOCKED), engine=engine)
    child = _child(done)
    told = [e for e in done.events(EventKind.WAIT) if e["pid"] == child]
    assert [bool(e["flags"] & EventFlag.BLOCKED) for e in told] == [False, True]


SPIN = """
int main(void) { for (;;) ; }
"""


def test_a_task_that_made_no_recorded_call_is_signalled_and_exits(tmp_path: Path) -> None:
    shell = f"{compiled(SPIN)} & kill -USR1 $!; wait $!"
    done = record(tmp_path, "sh", "-c", shell, engine="bpf")
    victim = _child(done)
    # The kernel turns a deadly signal into SIGKILL for every thread (complete_signal() in kernel/signal.c).
    assert [int(e["nr"]) for e in done.events(EventKind.SIGNALLED) if e["pid"] == victim] == [signal.SIGKILL]
    assert [life.code for life in done.lives if (life.kind, life.pid) == (EventKind.EXITED, victim)] == [
        signal.SIGUSR1
    ]


UNHANDLED = """
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void handle(int number) { (void)number; }
int main(int argc, char **argv)
{
	sigset_t mask;
	(void)argv;
	if (argc > 1)
		signal(SIGCHLD, handle);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	if (!fork())
		_exit(0);
	waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | WNOWAIT);
	sigprocmask(SIG_UNBLOCK, &mask, NULL);
	return wait(NULL) < 0;
}
"""


@ENGINES
@pytest.mark.parametrize("handled", [True, False])
def test_a_signal_of_which_nothing_comes_is_not_delivered(tmp_path: Path, engine: str, handled: bool) -> None:
    done = record(tmp_path, compiled(UNHANDLED), *["handled"] * handled, engine=engine)
    root = done.outcome.root_pid
    told = [int(e["nr"]) for e in done.events(EventKind.SIGNALLED) if e["pid"] == root]
    assert told == [signal.SIGCHLD] * handled


TIMER = """
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
enum { TICKS = 300 };
static volatile int ticks;
static void tick(int number) { (void)number; ticks++; }
int main(void) {
    int own[2];
    char byte = 0;
    pid_t busy = fork();
    if (pipe(own))
        return 1;
    for (; !busy;) /* always inside some recorded call, on whichever CPU */
        if (write(own[1], &byte, 1) != 1 || read(own[0], &byte, 1) != 1)
            _exit(1);
    struct itimerval often = {{0, 500}, {0, 500}};
    signal(SIGALRM, tick);
    setitimer(ITIMER_REAL, &often, NULL);
    while (ticks < TICKS)
        pause();
    kill(busy, SIGKILL);
    return waitpid(busy, NULL, 0) != busy;
}
"""


def test_a_timer_s_signal_is_nobody_s(tmp_path: Path) -> None:
    done = record(tmp_path, compiled(TIMER), engine="bpf", buffer_bytes=1 << 26)
    root = done.outcome.root_pid
    assert sum(e["nr"] == signal.SIGALRM for e in done.events(EventKind.SIGNALLED)) >= 300
    sent = [(int(e["nr"]), int(e["pid"]) == root) for e in done.events(EventKind.SIGNAL)]
    assert {number for number, by_root in sent if not by_root} == {signal.SIGCHLD}
    assert {number for number, by_root in sent if by_root} == {signal.SIGKILL, signal.SIGCHLD}


PTY = """
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    int master = posix_openpt(O_RDWR | O_NOCTTY), ready[2];
    char byte;
    if (grantpt(master) || unlockpt(master) || pipe(ready))
        return 1;
    pid_t child = fork();
    if (!child) {
        int tty = setsid() < 0 ? -1 : open(ptsname(master), O_RDWR);
        close(master);
        if (tty < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    if (read(ready[0], &byte, 1) != 1)
        return 1;
    return close(master) || waitpid(child, NULL, 0) != child;
}
"""


def test_a_signal_made_by_another_call_than_kill_is_told(tmp_path: Path) -> None:
    done = record(tmp_path, compiled(PTY), engine="bpf")
    sent = {(int(e["nr"]), int(e["pid"]), int(e["chan"]) >> 32) for e in done.events(EventKind.SIGNAL)}
    assert (int(signal.SIGHUP), done.outcome.root_pid, _child(done)) in sent


WAITV = """
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
enum { WAITV = 449 };
struct waiter { uint64_t value, word; uint32_t flags, reserved; };
static uint32_t words[2];
static void *wake(void *unused) {
    while (syscall(SYS_futex, &words[1], FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1) != 1)
        usleep(1000);
    return unused;
}
int main(void) {
    struct waiter all[2] = {{0, (uintptr_t)&words[0], 2 | 128, 0}, {0, (uintptr_t)&words[1], 2 | 128, 0}};
    pthread_t thread;
    pthread_create(&thread, NULL, wake, NULL);
    long woken = syscall(WAITV, all, 2, 0, NULL, 0);
    pthread_join(thread, NULL);
    printf("%lx\\n", (long)&words[1]);
    return woken != 1;
}
"""


@ENGINES
def test_a_wait_at_several_words_names_the_one_it_was_woken_at(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(WAITV), engine=engine)
    assert done.outcome.wait_status == 0
    (wait,) = [e for e in done.events(EventKind.FUTEX_WAIT) if e["nr"] == number_of("futex_waitv")]
    woke = [e for e in done.events(EventKind.FUTEX_WAKE) if e["ret"] == 1 and e["tid"] != e["pid"]]
    assert wait["ret"] == 1 and int(wait["chan"]) in {int(e["chan"]) for e in woke}


MANY_MESSAGES = """
#include <sys/socket.h>
#include <string.h>
enum { MESSAGES = 100 };
int main(void) {
    int ends[2];
    static struct mmsghdr all[MESSAGES];
    struct iovec three = {"abc", 3};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        return 1;
    for (int i = 0; i < MESSAGES; i++)
        all[i].msg_hdr = (struct msghdr){.msg_iov = &three, .msg_iovlen = 1};
    return sendmmsg(ends[0], all, MESSAGES, 0) != MESSAGES;
}
"""


@ENGINES
def test_every_message_of_one_call_is_counted(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(MANY_MESSAGES), engine=engine)
    (sent,) = done.events(EventKind.SEND)
    assert (sent["count"], sent["ret"]) == (100, 300)


STACKS = """
#include <unistd.h>
static int own[2];
__attribute__((noinline)) static int deep(int n) {
    volatile char room[32];
    room[0] = (char)n;
    if (n & 1)
        return n > 1 ? deep(n >> 1) + room[0] : (int)write(own[1], "x", 1);
    return n > 1 ? deep(n >> 1) - room[0] : (int)write(own[1], "x", 1);
}
int main(void) {
    char byte;
    if (pipe(own))
        return 1;
    for (int i = 1; i < 2048; i++) {
        deep(i);
        if (read(own[0], &byte, 1) != 1)
            return 1;
    }
    return 0;
}
"""


@ENGINES
def test_each_stack_has_a_number_of_its_own(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(STACKS, "-fno-optimize-sibling-calls"), engine=engine)
    numbers = {int(e["stack"]) for e in done.events(EventKind.SEND)}
    assert 0 not in numbers and len(numbers) > 1000
    saved = {number: done.trace.stack(number) for number in numbers}
    assert max(numbers) <= len(saved) + 100  # one after the other: no hash of them that two could share
    kept = [stack for stack in saved.values() if stack is not None]
    assert len(kept) == len(numbers)
