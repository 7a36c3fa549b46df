"""Between fork and exec, in the child. libvirt: the second half of ``virExec``, and ``virExecCommon``.

Only the thread that forked exists here, and any lock another one held stays locked for ever. So: no
threads, no imports, no logging, nothing that looks up a user; system calls, with everything else
prepared by the parent.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import NoReturn

from minivirt import kernel
from minivirt.emulator import Ids
from minivirt.handshake import Handshake


@dataclass(frozen=True, slots=True)
class Plan:
    """All a child needs to know. ``log_fd`` becomes its stdout and stderr, ``null_fd`` its stdin."""

    program: str
    arguments: list[str]
    environment: dict[str, str]
    ids: Ids
    null_fd: int
    log_fd: int


def become_guest(plan: Plan, handshake: Handshake) -> NoReturn:
    """Shake hands, give up what a guest must not have, and exec its emulator. Signals are blocked here."""
    try:
        handshake.i_am_child()
        _reset_signals()
        os.setsid()
        handshake.say_ready()
        if handshake.wait_go():
            _take_streams(plan)
            _drop_privileges(plan.ids)
            os.chdir("/")
            os.execve(plan.program, plan.arguments, plan.environment)
    except OSError as error:
        # exec is the step with a file name; capset and its like fail without one.
        step = f"cannot run {plan.program}" if error.filename else "cannot drop privileges"
        handshake.say_failed(f"{step}: {error.strerror}".encode())
    except Exception as error:
        handshake.say_failed(f"the child failed: {error!r}".encode())
    finally:
        os._exit(126)


def _reset_signals() -> None:
    """The daemon's handlers must not run here: their wake-up pipe is the daemon's. libvirt: ``virFork``."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _take_streams(plan: Plan) -> None:
    for fd, number in ((plan.null_fd, 0), (plan.log_fd, 1), (plan.log_fd, 2)):
        os.dup2(fd, number)


def _drop_privileges(ids: Ids) -> None:
    """libvirt: ``virSetUIDGIDWithCaps``. The order matters: each step needs a right the next one gives up."""
    if ids.by_root:
        kernel.empty_capability_bounding_set()
    if ids.other:
        os.setgroups([])
    os.setresgid(ids.gid, ids.gid, ids.gid)
    os.setresuid(ids.uid, ids.uid, ids.uid)
    kernel.drop_capabilities()
    kernel.die_with_parent()  # last: prctl(2) has a change of ids clear it
