"""``clew show T --from``: one recording answers for every client in it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.accuracy.measure import Design, record, serving
from bench.accuracy.truth import Said, read_statements
from tests.support.clew_command import CLEW

pytestmark = pytest.mark.requires("root", "bpf", "compiler")
_DESIGN = Design("thread_per_connection", "")
_REQUESTS = 6


def _show(trace: Path, *options: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*CLEW, "show", str(trace), *options], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == status, done.stderr
    return done


def _flow(trace: Path, *options: str) -> dict[str, Any]:
    flow: dict[str, Any] = json.loads(_show(trace, *options, "--json").stdout)
    return flow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, int], str]:
    """A recording of clients at once, which task asked which request, and where the server listened."""
    trace, said = record(_DESIGN, 4, _REQUESTS, tmp_path_factory.mktemp("from"))
    told = read_statements(said)
    asked = {one.source: one.request for one in told if one.said is Said.CLIENT}
    port = int.from_bytes(said.read_bytes()[8:16], "little")
    return trace, asked, f"127.0.0.1:{port}"


@pytest.mark.parametrize("kind", ["connect", "request"])
def test_each_connection_is_followed_to_what_it_caused(
    made: tuple[Path, dict[int, int], str], kind: str
) -> None:
    trace, asked, address = made
    seen = set()
    for n in range(1, _REQUESTS + 1):
        origin = f"{kind}:{address},n={n}"
        flow = _flow(trace, "--from", origin, "--until", "exec:hit")
        assert flow["from"] == origin
        (hit,) = [hop for hop in flow["hops"] if hop["kind"] == "exec"]
        assert hit["argv"][-1] == str(asked[flow["root"]["tid"]])
        first = flow["hops"][flow["path"][0] - 1]
        assert first["from"]["tid"] == flow["root"]["tid"]
        seen.add(flow["root"]["tid"])
    assert seen == set(asked)


def test_a_process_is_followed_by_its_number_and_by_its_program(
    made: tuple[Path, dict[int, int], str],
) -> None:
    trace, asked, _ = made
    pid, request = sorted(asked.items())[-1]
    flow = _flow(trace, "--from", f"pid:{pid}", "--until", "exec:hit")
    assert flow["root"]["pid"] == pid and flow["exit_status"] == 0
    assert [flow["hops"][n - 1] for n in flow["path"]][-1]["argv"][-1] == str(request)
    flow = _flow(trace, "--from", "exec:hit,n=2")
    assert flow["root"]["exe"].endswith("/hit") and flow["root"]["argv"][0] == "hit"
    assert [hop["kind"] for hop in flow["hops"]] == ["exit"]


def test_requests_are_listed_each_with_what_shows_it(made: tuple[Path, dict[int, int], str]) -> None:
    trace, asked, address = made
    listed = json.loads(_show(trace, "--requests", address, "--json").stdout)
    assert (listed["server"], listed["lost"], len(listed["requests"])) == (address, {}, _REQUESTS)
    assert {one["client"]["tid"] for one in listed["requests"]} == set(asked)
    at = [one["t_ms"] for one in listed["requests"]]
    assert at == sorted(at)
    for one in listed["requests"]:
        flow = _flow(trace, "--from", one["from"])
        tasks = {hop[end]["id"] for hop in flow["hops"] for end in ("from", "to")}
        assert (one["hops"], one["tasks"]) == (len(flow["hops"]), len(tasks))
        assert flow["root"]["id"] == one["client"]["id"]
        assert one["duration_ms"] >= flow["hops"][-1]["t_ms"]
        assert one["tiers"] == {"observed": one["hops"], "continued": 0, "ambiguous": 0}


def test_the_list_of_requests_is_for_people_too(made: tuple[Path, dict[int, int], str]) -> None:
    trace, _, address = made
    server = json.loads(_show(trace, "--requests", address, "--json").stdout)["requests"][0]["server"]
    lines = _show(trace, "--requests", str(server["pid"])).stdout.splitlines()
    assert lines[0] == f"{_REQUESTS} requests to {server['pid']}"
    shown = [line for line in lines if f"--from request:{server['pid']},n=" in line and "next" not in line]
    assert len(shown) == _REQUESTS and all("observed" in line for line in shown)
    assert address in _show(trace, "--requests", "/run/none.sock", status=125).stderr
    assert "--from" in _show(trace, "--requests", address, "--format", "svg", status=125).stderr


@pytest.mark.parametrize("form", ["text", "html", "svg", "mermaid", "dot"])
def test_every_view_says_where_its_flow_begins(made: tuple[Path, dict[int, int], str], form: str) -> None:
    trace, _, address = made
    shown = _show(trace, "--from", f"connect:{address},n=2", "--format", form).stdout
    shown = shown.replace("#58;", ":")  # as Mermaid has it
    assert f"from connect:{address},n=2" in shown
    assert f"{trace}#" not in shown  # numbers of hops are those of the recording's own root


def test_what_is_not_there_is_told_with_what_is(made: tuple[Path, dict[int, int], str]) -> None:
    trace, _, address = made
    said = _show(trace, "--from", "connect:/run/none.sock", status=125).stderr
    assert address in said
    said = _show(trace, "--from", f"connect:{address},n=99", status=125).stderr
    assert f"It has {_REQUESTS} such connections." in said
    assert "hit" in _show(trace, "--from", "exec:none", status=125).stderr
    notes = _flow(trace, "--from", "exec:hit")["notes"]
    assert any(f"{_REQUESTS} executions" in note for note in notes)


def test_a_connection_whose_client_was_not_recorded_is_a_root(tmp_path: Path) -> None:
    trace, on, off = (tmp_path / name for name in ("trace", "on", "off"))
    os.mkfifo(on)
    os.mkfifo(off)
    with serving(_DESIGN, 2, 4, tmp_path) as server:
        command = [*CLEW, "record", "-q", "--scope", "tree", "-p", str(server.pid), "-o", str(trace)]
        gate = ["sh", "-c", f"echo >{on}; read nothing <{off}"]
        with subprocess.Popen([*command, "--", *gate]) as recording:
            on.read_bytes()
            subprocess.run(server.clients, env=server.env, check=True, timeout=60)
            off.write_bytes(b"\n")
            assert recording.wait(60) == 0
    seen = set()
    for n in range(1, 5):
        flow = _flow(trace, "--from", f"connect:{server.pid},n={n}", "--until", "exec:hit")
        assert flow["root"]["pid"] == server.pid
        (hit,) = [hop["argv"][-1] for hop in flow["hops"] if hop["kind"] == "exec"]
        assert flow["path"]
        seen.add(hit)
    assert seen == {"1", "2", "3", "4"}
