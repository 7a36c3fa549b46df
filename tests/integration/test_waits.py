"""``clew waits`` on programs that wait for somebody they know: it names that one, and every deadlock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bounded import until
from tests.support.clew_command import clew, complaint
from tests.support.programs import SOURCES

pytestmark = pytest.mark.requires("compiler")

ONE_WAY = {
    "pipe-data": "read",
    "pipe-room": "write",
    "unix-answer": "recvfrom",
    "unix-accept": "read",
    "eventfd": "read",
    "epoll": "epoll_wait",
    "child": "wait4",
    "mutex": "futex",
    "join": "futex",
    "flock": "flock",
    "fcntl": "fcntl",
}
CIRCLES = {"full-pipes": "write", "two-locks": "flock", "lock-and-socket": "recvfrom", "vfork": "vfork"}

Start = Callable[[str], tuple[int, int]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("waits") / "clew-test-waits"
    source = SOURCES / "waits" / "waits.c"
    flags = ("-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread")
    subprocess.run(["cc", *flags, source, "-o", made], check=True)
    return made


@pytest.fixture
def start(program: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts the program in one of its ways; what it prints: who waits, and who could end it."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(way: str) -> tuple[int, int]:
        one = subprocess.Popen([program, way], cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True)
        started.append(one)
        assert one.stdout is not None
        waiter, ender = one.stdout.readline().split()
        return int(waiter), int(ender)

    yield begin
    for one in started:
        os.killpg(one.pid, signal.SIGKILL)
        one.wait()
        assert one.stdout is not None
        one.stdout.close()


def waits_of(pid: int) -> dict[str, Any]:
    done = clew("waits", "--json", str(pid))
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def wait_of(pid: int, call: str) -> dict[str, Any]:
    """The wait of the process's main thread, as soon as it is in that call."""

    def look() -> dict[str, Any] | None:
        waits = waits_of(pid)["waits"]
        return next((w for w in waits if w["task"]["tid"] == pid and w["syscall"] == call), None)

    found = until(look, what=f"{pid} in {call}")
    assert found is not None
    return found


@pytest.mark.parametrize("way", ONE_WAY)
def test_names_who_can_end_the_wait(start: Start, way: str) -> None:
    waiter, ender = start(way)
    wait = wait_of(waiter, ONE_WAY[way])
    enders = [one for on in wait["on"] for one in on["enders"]]
    # Of a process that several tasks share the object with, the one that testified is among them.
    assert ender in {one["tid"] or one["pid"] for one in enders}
    assert len(enders) == (2 if way == "eventfd" else 1), enders
    assert not any(on["outside"] for on in wait["on"])


@pytest.mark.parametrize("way", ONE_WAY)
def test_no_deadlock_where_somebody_is_free(start: Start, way: str) -> None:
    waiter, _ = start(way)
    wait_of(waiter, ONE_WAY[way])
    assert waits_of(waiter)["rings"] == []


@pytest.mark.parametrize("way", CIRCLES)
def test_finds_each_deadlock(start: Start, way: str) -> None:
    waiter, other = start(way)
    found = until(lambda: (seen := waits_of(waiter))["rings"] and seen, what="the circle")
    (ring,) = found["rings"]
    members = {found["waits"][member["wait"]]["task"]["pid"] for member in ring["members"]}
    assert ring["certain"]
    assert waiter in members
    assert len(members) == 2
    assert other == -1 or other in members


def test_text_says_the_deadlock_first(start: Start) -> None:
    waiter, other = start("lock-and-socket")
    until(lambda: waits_of(waiter)["rings"], what="the circle")
    said = clew("waits", str(waiter), environment={**os.environ, "COLUMNS": "200"}).stdout.decode()
    text = " ".join(said.split())
    assert text.startswith("Deadlock: nobody who could end it is free to do so.")
    assert f"clew-test-waits {waiter} waits for data on unix socket; clew-test-waits {other} holds" in text
    assert f"clew-test-waits {other} waits for the lock of mutex at 0x" in text


def test_stopped_process_says_how_to_continue_it(start: Start) -> None:
    stopped, _ = start("stopped")
    found = until(lambda: waits_of(stopped)["waits"], what="the stop")
    until(lambda: waits_of(stopped)["waits"][0]["task"]["state"] == "T", what="the stop")
    (on,) = waits_of(stopped)["waits"][0]["on"]
    assert found
    assert (on["kind"], on["why"]) == ("stopped", f"kill -CONT {stopped} ends it")


def test_graph_and_whole_machine(start: Start) -> None:
    waiter, other = start("full-pipes")
    until(lambda: waits_of(waiter)["rings"], what="the circle")
    graph = clew("waits", "--dot", str(waiter)).stdout.decode()
    assert f"t{waiter} -> t{other}" in graph
    everything = clew("waits", "--all")
    assert everything.returncode == 0
    assert f"clew-test-waits {waiter}".encode() in everything.stdout


@pytest.mark.parametrize(("word", "status"), [("x", 125), ("-5", 125), ("999999999", 125)])
def test_bad_process_ids(word: str, status: int) -> None:
    done = clew("waits", "--", word)
    assert done.returncode == status
    complaint(done)
