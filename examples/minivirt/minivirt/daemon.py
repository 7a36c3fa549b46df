"""``minivirtd``: everything put together, from the first lock to the last guest's end.

libvirt: ``main`` of ``remote_daemon.c``, and ``virNetDaemon``.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from minivirt import emulator, kernel
from minivirt.clients import Clients
from minivirt.detach import READY, detached
from minivirt.dispatch import Dispatcher, end
from minivirt.errors import Refused
from minivirt.event_loop import EventLoop
from minivirt.guests import Guests
from minivirt.launcher import Launcher
from minivirt.places import SESSION, SYSTEM, Places, make, places
from minivirt.workers import JobQueue, WorkerPool

_PREDECESSOR_S = 10.0


class Daemon:
    """``timeout_s``: leave after so long without clients and guests; 0: never."""

    def __init__(self, where: Places, timeout_s: float, grace_s: float) -> None:
        self._where = where
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._idle_since = time.monotonic()
        self._stopping = False
        where.guest_logs.mkdir(mode=0o700, exist_ok=True)
        self._guests = Guests(where.definitions)
        self._loop = EventLoop()
        queue = JobQueue()
        listener = _listen(where)
        self._emulator = emulator.find()
        ids = emulator.ids(where.kind)
        self._launcher = Launcher(self._loop, self._guests, self._emulator, ids, where.guest_logs)
        self._workers = WorkerPool(queue, Dispatcher(self._guests, self._launcher, grace_s).handle)
        self._clients = Clients(self._loop, listener, queue)

    def run(self, say_ready: Callable[[], None]) -> None:
        """Serve until a signal or idleness ends it, then end the guests."""
        try:
            self._catch_signals()
            self._launcher.start()
            self._workers.start()
            say_ready()
            while not self._stopping and not self._may_leave():
                self._loop.run_once(self._idle_left())
        finally:
            self._stop()

    def _catch_signals(self) -> None:
        """A signal writes to the loop's pipe, whichever thread it hits, so no wait misses it."""
        signal.set_wakeup_fd(self._loop.wake_fd, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _idle_left(self) -> float | None:
        """Seconds until the daemon has been idle for long enough; None while it is not idle."""
        if not self._timeout_s or self._clients or self._guests.any_up():
            self._idle_since = time.monotonic()
            return None
        return max(0.0, self._idle_since + self._timeout_s - time.monotonic())

    def _may_leave(self) -> bool:
        """Whether idleness ends the daemon now. Under the lock with which shells connect, so that none is
        left with a connection to a daemon that is gone."""
        if self._idle_left() != 0:
            return False
        with self._where.connect_lock.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._idle_since = time.monotonic()
                return False
            self._clients.accept()
            if self._clients:
                return False
            self._where.socket.unlink(missing_ok=True)
            return True

    def _stop(self) -> None:
        self._where.socket.unlink(missing_ok=True)
        self._clients.close()
        guests = self._guests.close()
        for process in guests:  # all at once, so that their last moments do not add up
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.pidfd, signal.SIGTERM)
        for process in guests:
            with suppress(Refused):
                end(process, process.pidfd, self._grace_s)
                self._guests.gone(process)
        self._workers.stop()
        self._launcher.stop()
        self._emulator.remove()


def _listen(where: Places) -> socket.socket:
    """The daemon's socket. Its lock is held, so a socket that is there was left behind by a dead one."""
    where.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # nobody else may connect, from the first moment on
    try:
        listener.bind(str(where.socket))
    finally:
        os.umask(mask)
    listener.listen(128)
    return listener


def _be_the_only_one(where: Places, patience_s: float) -> int:
    """Lock the pid file until this process ends; wait for a predecessor that is on its way out."""
    fd = os.open(where.pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Refused(f"a {where.kind} daemon is already running ({where.pid_file})") from None
            time.sleep(0.02)
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


def _serve(where: Places, options: argparse.Namespace, ready_fd: int | None) -> None:
    """A daemon's whole life. With ``ready_fd`` (detached) it says READY there and lets the terminal go."""
    kernel.name_thread("minivirtd")
    make(where)
    # A shell waits for this one because the last one was leaving; it may still hold the lock.
    lock = _be_the_only_one(where, _PREDECESSOR_S if options.ready_fd is not None else 0)

    def say_ready() -> None:
        if ready_fd is not None:
            _let_go_of_terminal(where)
            with suppress(BrokenPipeError):  # whoever started it has not waited
                os.write(ready_fd, READY)
            os.close(ready_fd)

    try:
        Daemon(where, options.timeout, options.grace).run(say_ready)
    finally:
        os.close(lock)


def _let_go_of_terminal(where: Places) -> None:
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    log = os.open(where.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for fd, number in ((null, 0), (log, 1), (log, 2)):
        os.dup2(fd, number)
    os.close(null)
    os.close(log)


def _serve_detached(where: Places, options: argparse.Namespace, ready_fd: int) -> NoReturn:
    status = 1
    try:
        _serve(where, options, ready_fd)
        status = 0
    except (Refused, OSError) as error:
        with suppress(OSError):  # it may be closed: then the log has the error
            os.write(ready_fd, str(error).encode())
        print(f"minivirtd: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def main() -> int:
    options = _options()
    try:
        where = places(SESSION if options.session else SYSTEM)
        if options.ready_fd is not None:
            os.set_inheritable(options.ready_fd, False)
            _serve_detached(where, options, options.ready_fd)
        if options.daemon:
            detached(lambda ready_fd: _serve_detached(where, options, ready_fd))
        else:
            _serve(where, options, None)
    except (Refused, OSError) as error:
        print(f"minivirtd: {error}", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="minivirtd", description="The daemon of minivirt.")
    parser.add_argument("-d", "--daemon", action="store_true", help="detach; return when it is ready")
    parser.add_argument(
        "--session",
        action="store_true",
        default=os.geteuid() != 0,
        help="be the calling user's daemon (what a user's always is), not the system's",
    )
    parser.add_argument("--timeout", type=float, default=0, metavar="S", help="leave after S idle seconds")
    parser.add_argument(
        "--grace", type=float, default=5, metavar="S", help="seconds a guest has to end itself"
    )
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()
