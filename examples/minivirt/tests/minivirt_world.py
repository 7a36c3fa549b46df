"""A folder with one minivirt in it, real processes, everything ended at the end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parent.parent
# A number no account has: a session's folder must go by the uid alone.
USER = 54321
PATIENCE_S = 30.0
IS_ROOT = os.geteuid() == 0
WHO = {"root-system": ("system", 0), "root-session": ("session", 0), "user-session": ("session", USER)}

Fields = dict[str, object]


@dataclass
class World:
    """``kind``: which daemon. ``uid``: who runs shell and daemon. ``emulator``: "qemu" or "stand-in"."""

    kind: str
    uid: int
    emulator: str
    base: Path
    python: str
    example: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.base / "home"
        self.home.mkdir()
        os.chown(self.home, self.uid, self.uid)
        self.journal = self.home / "journal"
        self.env = {
            "PATH": os.environ["PATH"] if self.emulator == "qemu" else "/nonexistent",
            "MINIVIRT_RUNTIME_DIR": str(self.home / "run"),
            "MINIVIRT_JOURNAL": str(self.journal),
            "LC_ALL": "C.UTF-8",
        }

    @property
    def folder(self) -> Path:
        return self.home / "run" / self.kind

    def popen(self, *command: str, **more: object) -> subprocess.Popen[str]:
        """A program of the example, as this world's user."""
        if os.geteuid() != self.uid:
            more |= {"user": self.uid, "group": self.uid, "extra_groups": []}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        program = [self.python, str(self.example / command[0]), *command[1:]]
        return subprocess.Popen(program, text=True, cwd="/", env=self.env, **(pipes | more))  # type: ignore[call-overload,no-any-return]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        with self.popen(*command) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def daemonise(self, *options: str) -> int:
        """Start the daemon the way this kind is started by hand; its pid."""
        session = ["--session"] if self.kind == "session" else []
        done = self.run("minivirtd", "-d", *session, *options)
        assert done.returncode == 0, done.stderr
        return self.daemon_pid()

    def daemon_pid(self) -> int:
        return int((self.folder / "minivirtd.pid").read_text())

    def sh(self, *arguments: str) -> str:
        """minivirsh that must succeed; what it printed."""
        done = self.run("minivirsh", "--connect", self.kind, *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    def sh_fails(self, *arguments: str) -> str:
        """minivirsh that must fail as a user sees it, one line; that line."""
        done = self.run("minivirsh", "--connect", self.kind, *arguments)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    def start(self, name: str) -> int:
        """Define and start a guest; its pid."""
        self.sh("define", name)
        return int(self.sh("start", name).rsplit(" ", 1)[1])

    def listed(self) -> dict[str, tuple[str, str]]:
        """name → (pid or "-", state)"""
        rows = [line.split(maxsplit=2) for line in self.sh("list", "--all").splitlines()[2:]]
        return {name: (pid, state) for pid, name, state in rows}

    def connect(self) -> socket.socket:
        """A bare connection, for what minivirsh would never send."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(self.folder / "minivirt-sock"))  # blocking, should the backlog be full
        connection.settimeout(PATIENCE_S)
        return connection

    def ask(self, **request: object) -> Fields:
        with self.connect() as connection:
            connection.sendall(message(json.dumps(request).encode()))
            return reply(connection)

    def script(self, code: str) -> str:
        """An emulator that is a shell script anybody may run; its path."""
        program = self.base / "qemu-system-x86_64"
        program.write_text(f"#!/bin/sh\n{code}\n")
        program.chmod(0o755)
        return str(program)

    def said(self) -> list[Fields]:
        """The journal so far."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    def end(self) -> None:
        """Stop the daemon if there is one; its guests end with it."""
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            if is_our_daemon(pid := self.daemon_pid()):
                with watching(pid) as ended:
                    os.kill(pid, signal.SIGTERM)
                    ended()


def message(body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + body


def reply(connection: socket.socket) -> Fields:
    header = exactly(connection, 4)
    return dict(json.loads(exactly(connection, struct.unpack("!I", header)[0])))


def exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        assert more, f"the daemon hung up after {data!r}"
        data += more
    return data


@contextlib.contextmanager
def watching(pid: int) -> Iterator[Callable[[], None]]:
    """Take hold of a process that exists; the value waits for its end."""
    pidfd = os.pidfd_open(pid)
    try:
        yield lambda: wait_readable(pidfd, f"process {pid} to end")
    finally:
        os.close(pidfd)


def wait_readable(fd: int, what: str) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(PATIENCE_S * 1000), f"waited {PATIENCE_S} s for {what}"


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll for what no file descriptor tells."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.01)


def is_our_daemon(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return b"minivirtd" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def is_alive(pid: int) -> bool:
    """Whether a process runs: neither gone nor waiting to be reaped."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]


def is_open_to_all(path: Path) -> bool:
    real = path.resolve()
    return all(part.stat().st_mode & 0o1 for part in real.parents) and bool(real.stat().st_mode & 0o4)


def python_for(uid: int) -> str | None:
    """An interpreter that this user can run: ours, else the distribution's if it is new enough."""
    if uid == os.geteuid() or is_open_to_all(Path(sys.executable)):
        return sys.executable
    probe = ["/usr/bin/python3", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    with contextlib.suppress(OSError):
        if subprocess.run(probe, check=False).returncode == 0:
            return probe[0]
    return None


@contextlib.contextmanager
def a_world(kind: str, uid: int, emulator: str, python: str) -> Iterator[World]:
    """Not in pytest's own temporary folder: nobody, whom root's guests run as, cannot reach that."""
    base = Path(tempfile.mkdtemp(prefix="minivirt-test-"))
    base.chmod(0o755)
    example = EXAMPLE
    if uid != os.geteuid() and not is_open_to_all(EXAMPLE / "minivirtd"):
        example = base / "example"
        shutil.copytree(EXAMPLE, example, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    world = World(kind, uid, emulator, base, python, example)
    try:
        yield world
    finally:
        world.end()
        shutil.rmtree(base)


def open_world(who: str, emulator: str) -> Iterator[World]:
    """For a fixture: a world of one of ``WHO``, or a skip that says what is missing."""
    kind, uid = WHO[who]
    if not IS_ROOT:
        if uid == 0:
            pytest.skip("needs root")
        uid = os.geteuid()
    if emulator == "qemu" and not shutil.which("qemu-system-x86_64"):
        pytest.skip("QEMU is not installed")
    if (python := python_for(uid)) is None:
        pytest.skip(f"no Python >= 3.11 that uid {uid} can run")
    with a_world(kind, uid, emulator, python) as world:
        if kind == "system":
            world.daemonise("--grace", "20")
        else:
            world.env["MINIVIRT_TIMEOUT"] = "600"  # no test may depend on how fast it runs
        yield world
