"""`clew doctor`: what it finds on this machine, what it makes of findings, and how it shows them."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from clew.cli import doctor
from clew.cli.doctor_checks import Group, drgn_installed, examine, verdict
from clew.errors import PermissionMissing
from clew.kernel import features, ptrace, yama
from clew.kernel.features import Check

_NOBODY = 65534
_NEWUSER = 0x10000000
_PR_SET_DUMPABLE = 4
_GOOD, _BAD = Check("one", True, "there"), Check("two", False, "not there", "apt install two")
_ALSO_BAD = Check("three", False, "not there either", "apt install three")


def _groups(*checks: Check) -> tuple[Group, ...]:
    return Group("bpf", checks, "bpf"), Group("ptrace", (_ALSO_BAD,), "ptrace"), Group("more", (_BAD,))


def _elsewhere(prepare: Callable[[], object], check: Callable[[], Check]) -> Check:
    """What ``check`` finds in a child of ours that ``prepare`` has changed."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            prepare()
            os.write(write_end, pickle.dumps(check()))
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    told = pickle.loads(found)
    assert isinstance(told, Check)
    return told


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    # A change of user makes a process undumpable, which forbids tracing its children, until it execs.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def _enter_user_namespace() -> None:
    assert ctypes.CDLL(None).unshare(_NEWUSER) == 0


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_engine_is_the_first_that_lacks_nothing() -> None:
    assert verdict(_groups(_GOOD, _GOOD)).engine == "bpf"


def test_the_first_lack_is_the_reason() -> None:
    picked = verdict(_groups(_GOOD, _BAD, Check("three", False, "neither")))
    assert picked.engine == ""
    assert picked.reason == "not bpf: two: not there; not ptrace: three: not there either"


def test_ptrace_is_picked_where_bpf_lacks_something() -> None:
    groups = Group("bpf", (_BAD,), "bpf"), Group("ptrace", (_GOOD,), "ptrace")
    assert verdict(groups).engine == "ptrace"
    assert verdict(groups).reason == "not bpf: two: not there; all it needs is here"


def _parts(recording: bool, holds: bool, crash_holds: bool) -> tuple[Group, ...]:
    parts = Check("recording", recording, "said"), Check("holds", holds, "said")
    return (
        Group("bpf", (_GOOD, *parts), "bpf"),
        Group("ptrace", (_GOOD,), "ptrace"),
        Group("holding", (Check("crash holds", crash_holds, "said"),)),
    )


@pytest.mark.parametrize(
    ("taken", "recording", "holds"),
    [
        ((True, True, True), "bpf", "bpf"),
        ((True, True, False), "bpf", "bpf"),
        ((True, False, False), "bpf", "ptrace"),
        ((False, True, False), "ptrace", "bpf"),
        ((False, False, False), "ptrace", "ptrace"),
    ],
)
def test_a_part_that_is_refused_is_off_and_nothing_else_is(
    taken: tuple[bool, bool, bool], recording: str, holds: str
) -> None:
    groups = _parts(*taken)
    assert (verdict(groups, "recording").engine, verdict(groups, "holds").engine) == (recording, holds)


def test_two_engines_for_two_jobs_are_two_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert _shown(_parts(recording=False, holds=True, crash_holds=False), monkeypatch) == 0
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == [
        "--engine auto picks ptrace for recording (not bpf: recording: said; all it needs is here)",
        "--engine auto picks bpf for holds (all it needs is here)",
    ]


def test_every_lack_on_this_machine_has_a_remedy_and_every_check_a_finding() -> None:
    for group in examine():
        for check in group.checks:
            assert check.detail, check
            assert check.ok or check.remedy or check.detail.startswith("not tried"), check


def test_checking_leaves_nothing_behind() -> None:
    examine()  # libraries stay loaded, and some keep a file open
    before = _open_files(), _children()
    examine()
    assert (_open_files(), _children()) == before


def _children() -> set[str]:
    """Our child processes, those that ended and were not waited for too."""
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


@pytest.mark.requires("root", "bpf", "whole-machine")
def test_root_gets_the_bpf_engine() -> None:
    assert verdict(examine()).engine == "bpf"


@pytest.mark.requires("root")
def test_nobody_is_told_to_become_root() -> None:
    privileges = _elsewhere(_become_nobody, features.privileges)
    assert not privileges.ok
    assert privileges.detail == "uid 65534, no capability that matters here"
    assert "root" in privileges.remedy
    call = _elsewhere(_become_nobody, features.bpf_call)
    # Where kernel.unprivileged_bpf_disabled is 0, anybody may make a map, and the capabilities decide.
    assert not call.ok or Path("/proc/sys/kernel/unprivileged_bpf_disabled").read_text().strip() == "0"


@pytest.mark.requires("ptrace")
def test_a_child_can_be_traced_without_privileges() -> None:
    prepare = _become_nobody if os.geteuid() == 0 else os.getpid
    assert _elsewhere(prepare, features.ptrace_child).ok


@pytest.mark.requires("user-namespaces")
@pytest.mark.parametrize("check", [features.namespaces, features.privileges])
def test_a_user_namespace_is_noticed(check: Callable[[], Check]) -> None:
    found = _elsewhere(_enter_user_namespace, check)
    assert not found.ok
    assert "user" in found.detail
    assert found.remedy


@pytest.mark.parametrize(
    ("level", "ok", "words"),
    [("0", True, "level 0"), ("1", False, "level 1"), ("2", False, "level 2"), ("3", False, "level 3")],
)
def test_yama_is_explained(
    level: str, ok: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ptrace_scope").write_text(f"{level}\n")
    monkeypatch.setattr(yama, "SCOPE", str(tmp_path / "ptrace_scope"))
    monkeypatch.setattr(features, "capabilities", frozenset)
    found = features.ptrace_others()
    assert found.ok is ok
    assert words in found.detail
    assert ok or "ptrace_scope" in found.remedy


@pytest.mark.parametrize(("level", "words"), [("0", "container"), ("2", "as root"), ("3", "boot anew")])
def test_a_child_that_may_not_be_traced_is_explained(
    level: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> None:
        raise PermissionMissing(f"Cannot trace {pid}.", "")

    (tmp_path / "ptrace_scope").write_text(f"{level}\n")
    monkeypatch.setattr(yama, "SCOPE", str(tmp_path / "ptrace_scope"))
    monkeypatch.setattr(ptrace, "seize", refuse)
    found = features.ptrace_child()
    assert not found.ok
    assert words in found.remedy


def test_drgn_is_found() -> None:
    assert drgn_installed().ok


def test_json_says_what_the_checks_say() -> None:
    groups = _groups(_GOOD, _BAD)
    told = json.loads(json.dumps(doctor.as_json(groups, verdict(groups), verdict(groups, "holds"))))
    assert told["engine"] is None
    assert [check["name"] for check in told["checks"]] == ["one", "two", "three", "two"]
    assert set(told["checks"][1]) == {"group", "engine", "name", "ok", "detail", "remedy"}


def _shown(groups: tuple[Group, ...], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("clew.cli.doctor_checks.examine", lambda: groups)
    return doctor.run(argparse.Namespace(json=False, verbose=False))


def test_the_exit_status_is_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _shown(_groups(_GOOD), monkeypatch) == 0
    assert _shown(_groups(_BAD), monkeypatch) == 1


def test_a_lack_is_shown_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _shown(_groups(_GOOD, _BAD), monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "bpf",
        "  ok  one    there",
        "  no  two    not there",
        "             → apt install two",
    ]
    assert "  -   two    not there" in lines


def test_long_findings_are_wrapped_and_hostile_ones_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    hostile = Check("name", False, "\x1b[31m" + "long words " * 20 + "x" * 80, "[red]" + "fix it " * 20)
    _shown(_groups(hostile), monkeypatch)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b[31mlong" in out
    assert "[red]fix" in out
    assert max(map(len, out.splitlines())) <= 50
