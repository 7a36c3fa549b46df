"""Numbers inside namespaces mean something else outside: a recording has the machine's."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from clew.model.event import ChannelType, EventKind
from tests.support.tracing import Recorded, compiled, record

pytestmark = pytest.mark.requires("root", "compiler")

ENGINES = pytest.mark.parametrize(
    "engine", [pytest.param("bpf", marks=pytest.mark.requires("bpf")), "ptrace"], ids=["bpf", "ptrace"]
)
_UNSHARE = shutil.which("unshare") or "unshare"


def _born(done: Recorded) -> set[int]:
    return {life.pid for life in done.lives if life.kind == EventKind.FORKED and life.t}


@ENGINES
def test_the_child_that_a_wait_names_is_the_machine_s(engine: str, tmp_path: Path) -> None:
    script = "/bin/true & wait $!; /bin/true; /bin/true; :"
    done = record(tmp_path, _UNSHARE, "-pf", "sh", "-c", script, engine=engine)
    waited = [int(e["ret"]) for e in done.events(EventKind.WAIT_CHILD) if e["ret"] > 0]
    assert len(waited) == 4 and set(waited) == _born(done)
    made = [int(e["ret"]) for e in done.events(EventKind.CLONE)]
    assert set(made) <= _born(done) and len(made) >= 3


@ENGINES
def test_whom_a_signal_is_for_is_the_machine_s(engine: str, tmp_path: Path) -> None:
    script = "sleep 1000 & kill -USR1 $!; wait $!; :"
    done = record(tmp_path, _UNSHARE, "-pf", "sh", "-c", script, engine=engine)
    killed = {
        life.pid for life in done.lives if life.kind == EventKind.EXITED and life.code == signal.SIGUSR1
    }
    targets = {int(e["chan"]) >> 32 for e in done.events(EventKind.SIGNAL) if e["nr"] == signal.SIGUSR1}
    assert killed and targets == killed


CONNECT = """
#include <arpa/inet.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
/* The same two addresses, once in each of two network namespaces. */
static int talk(void) {
    struct sockaddr_in to = {AF_INET, htons(7001), {htonl(INADDR_LOOPBACK)}, {0}};
    struct sockaddr_in from = {AF_INET, htons(7002), {htonl(INADDR_LOOPBACK)}, {0}};
    struct ifreq lo = {.ifr_flags = IFF_UP};
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    char byte;
    strcpy(lo.ifr_name, "lo");
    if (ioctl(listener, SIOCSIFFLAGS, &lo) || bind(listener, (void *)&to, sizeof to) || listen(listener, 1))
        return 1;
    if (bind(client, (void *)&from, sizeof from) || connect(client, (void *)&to, sizeof to))
        return 2;
    int served = accept(listener, NULL, NULL);
    return write(client, "x", 1) != 1 || read(served, &byte, 1) != 1;
}
int main(void) {
    for (int i = 0; i < 2; i++)
        if (!fork())
            _exit(unshare(CLONE_NEWNET) || talk());
    int first, second;
    wait(&first);
    wait(&second);
    return first || second;
}
"""


@ENGINES
def test_a_socket_is_told_with_its_network_namespace(engine: str, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(CONNECT), engine=engine)
    assert done.outcome.wait_status == 0
    told: dict[int, set[int]] = {}
    for life in done.lives:
        if life.kind == EventKind.SOCKET and life.channel == ChannelType.TCP and life.peer2 & 0xFFFF:
            told.setdefault(life.namespaces[2], set()).add(life.chan)
    assert sorted(len(inodes) for inodes in told.values()) == [2, 2]
    assert 0 not in told
