"""What a wait returned, who had armed it, and who woke whom: the kernel knows, and a recording has it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clew.kernel.syscalls import number_of
from clew.model.event import ChannelType, EventFlag, EventKind
from tests.support.bounded import until
from tests.support.tracing import Recorded, compiled, record, status_field

pytestmark = pytest.mark.requires("root", "compiler")

BPF = pytest.mark.requires("bpf")
ENGINES = pytest.mark.parametrize("engine", [pytest.param("bpf", marks=BPF), "ptrace"])

WAITS = """
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int first[2], quiet[2], counter = eventfd(1, 0);
    if (argc < 2 || pipe(first) || pipe(quiet) || write(first[1], "x", 1) != 1)
        return 1;
    if (!strcmp(argv[1], "poll")) {
        struct pollfd all[] = {{quiet[0], POLLIN, 0}, {first[0], POLLIN, 0}, {counter, POLLIN | POLLOUT, 0}};
        return poll(all, 3, -1) != 2;
    }
    if (!strcmp(argv[1], "select")) {
        fd_set in, out;
        FD_ZERO(&in);
        FD_ZERO(&out);
        FD_SET(quiet[0], &in);
        FD_SET(first[0], &in);
        FD_SET(counter, &in);
        FD_SET(counter, &out);
        return select(counter + 9, &in, &out, NULL, NULL) != 3;
    }
    int epoll = epoll_create1(0);
    struct epoll_event one = {EPOLLIN, {.u64 = 0xabcdef0123456789}}, got[4];
    struct epoll_event other = {EPOLLIN | EPOLLOUT | EPOLLET, {.u64 = 7}};
    if (!strcmp(argv[1], "twice"))
        other.data = one.data;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, first[0], &one) || epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &other))
        return 1;
    if (!strcmp(argv[1], "again")) { /* the number is given to another one after the first is gone */
        epoll_ctl(epoll, EPOLL_CTL_DEL, counter, NULL);
        other.data = one.data;
        close(first[0]);
        epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &other);
        return epoll_wait(epoll, got, 4, -1) != 1;
    }
    return epoll_wait(epoll, got, 4, -1) != 2;
}
"""
_IN, _OUT, _PIPE, _EVENTFD = 1, 4, ChannelType.PIPE, ChannelType.EVENTFD


def _ready(done: Recorded) -> list[tuple[int, int]]:
    return [(int(e["channel"]), int(e["ret"])) for e in done.events(EventKind.READY)]


@ENGINES
@pytest.mark.parametrize(
    ("how", "ready"),
    [
        ("poll", [(_PIPE, _IN), (_EVENTFD, _IN | _OUT)]),
        ("select", [(_EVENTFD, _IN), (_PIPE, _IN), (_EVENTFD, _OUT)]),
        ("epoll", [(_PIPE, _IN), (_EVENTFD, _IN | _OUT)]),
        ("again", [(_EVENTFD, _IN | _OUT)]),
    ],
)
def test_a_wait_names_the_descriptors_it_returned(
    how: str, ready: list[tuple[int, int]], engine: str, tmp_path: Path
) -> None:
    done = record(tmp_path, compiled(WAITS), how, engine=engine)
    assert _ready(done) == ready
    (sent,) = done.events(EventKind.SEND)
    told, (wait,) = done.events(EventKind.READY), done.events(EventKind.WAIT)
    assert _EVENTFD in told["channel"] and all(
        e["chan"] == sent["chan"] for e in told if e["channel"] == _PIPE
    )
    assert all((e["t0"], e["t"], e["tid"]) == (wait["t0"], wait["t"], wait["tid"]) for e in told)
    kinds = done.events(EventKind.READY, EventKind.WAIT)["kind"].tolist()
    assert kinds[-1] == EventKind.WAIT
    assert wait["count"] == len(told)


@ENGINES
def test_a_number_that_stands_for_two_descriptors_names_neither(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(WAITS), "twice", engine=engine)
    assert {channel for channel, _ in _ready(done)} == {ChannelType.EPOLL}
    assert {int(e["peer"]) for e in done.events(EventKind.READY)} == {0xABCDEF0123456789}


@ENGINES
def test_what_is_armed_is_told(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(WAITS), "epoll", engine=engine)
    armed = [
        (int(e["channel"]), int(e["ret"]) & 0xFFFFFFFF, int(e["count"])) for e in done.events(EventKind.ARM)
    ]
    assert armed == [(_PIPE, _IN, 1), (_EVENTFD, 1 << 31 | _IN | _OUT, 1)]


@ENGINES
def test_a_timer_is_armed_by_who_set_it(engine: str, tmp_path: Path) -> None:
    source = """
#include <sys/timerfd.h>
#include <unistd.h>
int main(void) {
    struct itimerspec soon = {.it_value = {0, 1000}};
    long n;
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    return timerfd_settime(fd, 0, &soon, NULL) || read(fd, &n, 8) != 8;
}
"""
    done = record(tmp_path, compiled(source), engine=engine)
    (armed,), (read,) = done.events(EventKind.ARM), done.events(EventKind.RECV)
    assert (armed["channel"], armed["chan"]) == (ChannelType.TIMERFD, read["chan"])


LOOP = """
#include <sys/epoll.h>
#include <unistd.h>
int main(void) {
    int epoll = epoll_create1(0);
    char byte;
    struct epoll_event one = {EPOLLIN, {.u64 = 0x1122334455667788}}, got;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &one))
        return 1;
    while (epoll_wait(epoll, &got, 1, -1) == 1 && read(0, &byte, 1) == 1)
        if (write(1, &byte, 1) != 1)
            return 1;
    return 0;
}
"""


@BPF
def test_an_epoll_that_was_filled_before_the_recording_is_known(tmp_path: Path) -> None:
    with subprocess.Popen([compiled(LOOP)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as loop:
        assert loop.stdin is not None
        until(lambda: status_field(loop.pid, "State").startswith("S"), timeout=30, what="the loop's sleep")
        ask = f"echo > /proc/{loop.pid}/fd/0; head -c1 < /proc/{loop.pid}/fd/1"
        done = record(tmp_path, "sh", "-c", ask, pids=[loop.pid], engine="bpf", stopping=lambda: False)
        loop.stdin.close()
    told = [e for e in done.events(EventKind.READY) if e["pid"] == loop.pid]
    sent = [e for e in done.events(EventKind.SEND) if e["pid"] != loop.pid]
    assert [(int(e["channel"]), int(e["chan"])) for e in told] == [(_PIPE, int(sent[-1]["chan"]))]


# The child sleeps in the call that is named; the parent, once it does, does what ends that.
SLEEPER = """
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/netlink.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static const char *how;
static char queue[64], byte[4096];
static int ends[2], id, fd, watch;
static int is(const char *name) { return !strcmp(how, name); }
static int asleep(int pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    int there = file && fgets(text, sizeof text, file) && strrchr(text, ')')[2] == 'S';
    fclose(file);
    return there;
}
static void prepare(void) {
    struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = 8};
    struct epoll_event edge = {EPOLLIN | EPOLLET, {.u64 = 1}};
    if (is("mqueue")) { fd = mq_open(queue, O_CREAT | O_RDWR, 0600, &small); mq_unlink(queue); }
    if (is("message")) id = msgget(IPC_PRIVATE, 0600);
    if (is("semaphore")) id = semget(IPC_PRIVATE, 1, 0600);
    if (is("fifo")) mkfifo("fifo", 0600);
    if (is("inotify")) { fd = inotify_init1(0); inotify_add_watch(fd, ".", IN_CLOSE_WRITE); }
    if (is("hangup")) socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    if (is("netlink")) {
        struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_pid = getpid()};
        fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK);
        bind(fd, (void *)&name, sizeof name);
    }
    if (is("edge")) {
        fd = eventfd(0, EFD_NONBLOCK);
        watch = epoll_create1(0);
        epoll_ctl(watch, EPOLL_CTL_ADD, fd, &edge);
    }
}
static void sleep_in_it(int other) {
    struct sembuf down = {0, -1, 0};
    struct epoll_event got;
    if (is("mqueue")) mq_receive(fd, byte, 8, NULL);
    if (is("message")) msgrcv(id, byte, 64, 0, 0);
    if (is("semaphore")) semop(id, &down, 1);
    if (is("fifo")) open("fifo", O_RDONLY);
    if (is("inotify")) (void)!read(fd, byte, sizeof byte);
    if (is("hangup")) { close(ends[0]); (void)!read(ends[1], byte, 1); }
    if (is("netlink")) recv(fd, byte, 64, 0);
    if (is("edge")) epoll_wait(watch, &got, 1, -1);
    if (is("pidfd")) {
        struct pollfd end = {(int)syscall(SYS_pidfd_open, other, 0), POLLIN, 0};
        poll(&end, 1, -1);
    }
}
static void end_it(void) {
    struct { long type; char text[8]; } letter = {1, "x"};
    struct sembuf up = {0, 1, 0};
    long one = 1;
    if (is("mqueue")) mq_send(fd, "x", 1, 0);
    if (is("message")) msgsnd(id, &letter, 8, 0);
    if (is("semaphore")) semop(id, &up, 1);
    if (is("fifo")) open("fifo", O_WRONLY);
    if (is("inotify")) close(open("file", O_CREAT | O_WRONLY, 0600));
    if (is("hangup")) close(ends[0]);
    if (is("netlink")) {
        struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_pid = getpid()};
        struct { struct nlmsghdr head; char text[4]; } m = {{.nlmsg_len = sizeof m}, "x"};
        sendto(fd, &m, sizeof m, 0, (void *)&name, sizeof name);
    }
    if (is("edge")) (void)!write(fd, &one, 8);
}
int main(int argc, char **argv) {
    int go[2];
    if (argc < 2 || pipe(go))
        return 1;
    how = argv[1];
    snprintf(queue, sizeof queue, "/clew-test-record-%d", getpid());
    prepare();
    pid_t first = fork();
    if (!first) { /* it ends once the other sleeps */
        close(go[1]);
        if (is("hangup"))
            close(ends[0]);
        if (read(go[0], byte, 1) < 0)
            _exit(1);
        _exit(0);
    }
    pid_t child = fork();
    if (!child) {
        close(go[1]);
        sleep_in_it(first);
        _exit(0);
    }
    while (!asleep(first) || !asleep(child)) /* the first has closed its copy of what is hung up */
        usleep(1000);
    close(go[1]);
    end_it();
    waitpid(first, NULL, 0);
    waitpid(child, NULL, 0);
    if (is("message")) msgctl(id, IPC_RMID, NULL);
    if (is("semaphore")) semctl(id, 0, IPC_RMID);
    return 0;
}
"""


@BPF
@pytest.mark.parametrize(
    ("how", "woken_in", "woken_by"),
    [
        ("mqueue", "mq_timedreceive", "mq_timedsend"),
        ("message", "msgrcv", "msgsnd"),
        ("semaphore", "semop semtimedop", "semop semtimedop"),
        ("fifo", "openat", "openat"),
        ("inotify", "read", "close"),
        ("hangup", "read", "close"),
        ("netlink", "recvfrom", "sendto"),
        ("edge", "epoll_wait", "write"),
        ("pidfd", "poll", ""),
    ],
)
def test_who_ends_a_sleep_is_told(
    how: str, woken_in: str, woken_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = record(tmp_path, compiled(SLEEPER), how, engine="bpf")
    root = done.outcome.root_pid
    first, child = [e.pid for e in done.lives if (e.kind, e.other_pid) == (EventKind.FORKED, root)]
    wakes = [e for e in done.events(EventKind.WAKE) if int(e["chan"]) == child << 32 | child]
    numbers = {name: number_of(name) for name in f"{woken_in} {woken_by}".split()}
    (wake,) = [e for e in wakes if int(e["nr"]) in {numbers[name] for name in woken_in.split()}]
    assert wake["pid"] == (root if woken_by else first)
    assert wake["count"] in ([numbers[name] for name in woken_by.split()] or [0xFFFF])
    assert wake["stack"] or not woken_by
    # The call it slept in is told as well, and that it slept.
    slept = [
        e for e in done.trace.events if e["pid"] == child and e["nr"] == wake["nr"] and e["t"] > wake["t"]
    ]
    slept = [e for e in slept if e["kind"] in (EventKind.WAIT, EventKind.RECV)]
    assert slept and slept[0]["flags"] & EventFlag.BLOCKED and slept[0]["t0"] < wake["t"]


@BPF
def test_bytes_tell_by_themselves_whom_they_wake(tmp_path: Path) -> None:
    done = record(tmp_path, "sh", "-c", "(read line; echo $line) | cat >/dev/null", engine="bpf")
    assert not [e for e in done.events(EventKind.WAKE) if e["count"] == number_of("write")]


TCP_END = """
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    char byte;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&name, size) || listen(listener, 1))
        return 1;
    if (getsockname(listener, (void *)&name, &size))
        return 1;
    if (connect(client, (void *)&name, size))
        return 1;
    int served = accept(listener, NULL, NULL);
    shutdown(client, SHUT_WR);
    int ended = read(served, &byte, 1);
    close(served);
    return ended;
}
"""


@BPF
def test_the_end_of_a_connection_says_who_made_it(tmp_path: Path) -> None:
    done = record(tmp_path, compiled(TCP_END), engine="bpf")
    (asked,), (taken,) = done.events(EventKind.CONNECT), done.events(EventKind.ACCEPT)
    told = [(int(e["chan"]), int(e["nr"])) for e in done.events(EventKind.SHUT)]
    assert told == [(asked["chan"], number_of("shutdown")), (taken["chan"], number_of("close"))]
