"""What people are told when a process may not be traced."""

from __future__ import annotations

import errno
import os

import pytest

from clew.engine.ptrace.refusal import refused, setid_note, survivors_note
from clew.errors import EngineError, PermissionMissing, TaskGone
from clew.kernel import procfs, yama


def test_a_tracer_is_named() -> None:
    error = refused(12, errno.EPERM, os.getpid())
    assert isinstance(error, PermissionMissing)
    own = procfs.stat(os.getpid())
    assert own is not None
    assert repr(own.comm.decode()) in error.cause
    assert str(os.getpid()) in error.cause
    assert error.remedy


def test_a_process_that_ended() -> None:
    error = refused(12, errno.ESRCH, 0)
    assert isinstance(error, TaskGone)
    assert error.pid == 12


def test_anything_else() -> None:
    assert isinstance(refused(12, errno.EIO, 0), EngineError)


@pytest.mark.parametrize("scope", [0, 1, 2, 3])
@pytest.mark.parametrize("pid", [0, 12])
def test_yama_is_explained_with_its_remedy(scope: int, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "read", lambda path: b"%d\n" % scope if path == yama.SCOPE else None)
    assert yama.ptrace_scope() == scope
    assert yama.meaning(scope)
    error = refused(pid, errno.EPERM, 0)
    own_command_is_free = scope == 1 and not pid
    assert ("Yama" in error.remedy) == (scope > 0 and not own_command_is_free)
    assert ("kernel.yama.ptrace_scope" in error.remedy) == (scope > 0 and not own_command_is_free)


def test_without_yama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "read", lambda path: None)
    assert yama.ptrace_scope() == 0


def test_notes() -> None:
    assert "rights of root" in setid_note(b"/bin/su", 0, only_group=False)
    assert "user 5's rights" in setid_note(b"/bin/x", 5, only_group=False)
    assert "group's rights" in setid_note(b"/bin/x", 0, only_group=True)
    assert survivors_note(1).startswith("1 process lives on")
    assert survivors_note(3).startswith("3 processes live on")
