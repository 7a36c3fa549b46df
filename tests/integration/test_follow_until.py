"""A path leads to any event that a rule can name; signals and ends say which and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.clew_command import clew, complaint
from tests.support.tracing import compiled

ENGINES = [pytest.param("bpf", marks=pytest.mark.requires("root", "bpf")), "ptrace"]
pytestmark = pytest.mark.requires("compiler")

# A child says that it is there and waits; its parent ends it with SIGTERM and takes its status.
PROGRAM = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static int told[2];
__attribute__((noinline)) int clew_test_says(void) { return write(told[1], "x", 1) == 1; }
int main(void) {
    char c;
    int status;
    if (pipe(told)) return 1;
    pid_t child = fork();
    if (!child) {
        clew_test_says();
        for (;;) pause();
    }
    if (read(told[0], &c, 1) != 1 || kill(child, SIGTERM) || waitpid(child, &status, 0) != child) return 1;
    return WTERMSIG(status) == SIGTERM ? 3 : 1;
}
"""


def _recorded(engine: str, folder: Path) -> Path:
    done = clew("record", "--engine", engine, "-o", folder / "trace", "--", compiled(PROGRAM))
    assert done.returncode == 3, complaint(done)
    return folder / "trace"


def _shown(trace: Path, *options: str) -> dict[str, Any]:
    done = clew("show", trace, "--json", *options)
    assert done.returncode == 0, complaint(done)
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


@pytest.fixture(scope="module", params=ENGINES)
def trace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _recorded(request.param, tmp_path_factory.mktemp("until"))


def _path(flow: dict[str, Any]) -> list[dict[str, Any]]:
    return [hop for hop in flow["hops"] if hop["n"] in flow["path"]]


def test_a_signal_is_reached_by_who_sent_it(trace: Path) -> None:
    flow = _shown(trace, "--until", "signal:TERM")
    (reached,) = flow["reached"]
    last = _path(flow)[-1]
    assert (reached["event"], reached["what"], reached["hop"]) == ("signal", "SIGTERM", last["n"])
    assert last["kind"] == "signal"
    assert last["signal"] == "SIGTERM"
    assert last["from"]["pid"] == flow["root"]["pid"]
    assert last["to"]["pid"] == reached["task"]["pid"] != flow["root"]["pid"]


def test_the_end_of_a_process_is_reached(trace: Path) -> None:
    flow = _shown(trace, "--until", "exit:*,n=1")
    (reached,) = flow["reached"]
    assert (reached["event"], reached["hop"]) == ("exit", 0)
    assert reached["task"]["pid"] != flow["root"]["pid"]
    assert _path(flow)[-1]["kind"] == "signal"


def test_a_fork_is_reached(trace: Path) -> None:
    flow = _shown(trace, "--until", "fork:*")
    (hop,) = _path(flow)
    assert hop["kind"] == "spawn"
    assert flow["reached"][0]["task"]["pid"] == hop["to"]["pid"]


def test_a_function_is_reached_on_a_backtrace(trace: Path) -> None:
    flow = _shown(trace, "--until", "call:clew_test_says")
    assert {(r["event"], r["what"]) for r in flow["reached"]} == {("syscall", "write")}
    assert [hop["kind"] for hop in _path(flow)] == ["spawn"]


def test_what_the_command_does_itself_is_reached_without_a_hop(trace: Path) -> None:
    flow = _shown(trace, "--until", "syscall:wait4")
    assert flow["path"] == []
    assert flow["reached"][0]["task"]["pid"] == flow["root"]["pid"]
    said = clew("show", trace, "--until", "syscall:wait4").stdout.decode()
    assert "syscall:wait4 reached by program itself" in said


def test_what_was_not_there_is_not_reached(trace: Path) -> None:
    flow = _shown(trace, "--until", "call:no_such_function")
    assert (flow["path"], flow["reached"]) == ([], [])
    assert any("no_such_function" in note for note in flow["notes"])
    assert any("backtrace of a recorded system call" in note for note in flow["notes"])


def test_the_hop_of_an_end_says_how_it_ended(trace: Path) -> None:
    (hop,) = [hop for hop in _shown(trace)["hops"] if hop["kind"] == "exit"]
    assert hop["exit_status"] == -15
    said = clew("show", trace, "--whole").stdout.decode()
    assert "killed by SIGTERM" in said
    assert "SIGTERM" in clew("show", trace, "--until", "signal:TERM", "--format", "svg").stdout.decode()
