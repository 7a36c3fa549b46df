"""``clew demo``: follow a start through minivirt, or (``clew demo libvirt``) through the real libvirt."""

from __future__ import annotations

import argparse
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from clew.errors import ClewError, CommandNotFound
from clew.view.escape import command

UNTIL = "exec:*qemu-system-x86_64"
_GUEST = "clew-demo"
_DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64'>hvm</type></os></domain>"""
_VIRTLOGD = "/run/libvirt/virtlogd-sock"
_WAIT_S = 15
_LONGEST_FOLDER = 50


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``demo`` to the command line."""
    parser = subparsers.add_parser("demo", help="follow a start through an example", description=__doc__)
    parser.add_argument("system", nargs="?", choices=("minivirt", "libvirt"), default="minivirt")
    parser.add_argument("-o", "--output", metavar="TRACE", help="keep the recording in this folder")
    parser.add_argument("--format", default="text", help="how to show it (as in clew show)")
    parser.add_argument("--engine", choices=("auto", "bpf", "ptrace"), default="auto")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Set up, follow, clean up (when told to end, too); the followed command's status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if args.system == "libvirt":
        with _libvirt(args) as words:
            return _follow(args, words)
    with _minivirt(args) as words:
        return _follow(args, words)


def _follow(args: argparse.Namespace, words: list[str]) -> int:
    from clew.cli.main import main

    given = ["follow", "--until", UNTIL]
    for option, value, default in (
        ("--format", args.format, "text"),
        ("--engine", args.engine, "auto"),
        ("-o", args.output, None),
    ):
        given += [option, value] if value != default else []
    given += ["--", *words]
    print(f"$ clew {command(given)}", file=sys.stderr)
    return main(given)


def _folder() -> Path:
    """Where minivirt is: in the package, or beside its sources."""
    package = Path(__file__).parents[1]
    for place in (package / "examples" / "minivirt", package.parents[1] / "examples" / "minivirt"):
        if (place / "minivirsh").exists():
            return place
    raise ClewError("The example minivirt is missing from this installation.", "Install clew again.")


@contextmanager
def _minivirt(args: argparse.Namespace) -> Iterator[list[str]]:
    """A daemon and a guest of our own.  With ptrace the command starts the daemon: it must be in its tree."""
    from clew.engine.choose import choose
    from clew.engine.engine import RecordRequest

    with closing(choose(args.engine, RecordRequest())[0]) as engine:
        own_daemon = os.geteuid() == 0 and engine.name == "bpf"
    connect = "system" if own_daemon else "session"
    with tempfile.TemporaryDirectory(prefix="clew-demo-", dir=_socket_folder()) as runtime:
        Path(runtime).chmod(0o711)
        os.environ["MINIVIRT_RUNTIME_DIR"] = runtime
        shell = [sys.executable, str(_folder() / "minivirsh")]
        try:
            if own_daemon:
                _must([sys.executable, str(_folder() / "minivirtd"), "-d"])
            _must([*shell, "define", "--connect", connect, _GUEST])
            if not own_daemon:
                _end_daemon(Path(runtime))
            yield [*shell, "start", "--connect", connect, _GUEST]
        finally:
            _end_daemon(Path(runtime))


def _socket_folder() -> str:
    """Where temporary files go, unless that leaves too little room for a socket's name (unix(7))."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= _LONGEST_FOLDER else "/tmp"


def _end_daemon(runtime: Path) -> None:
    """End the daemon of this folder, and with it its guests, and wait until it is gone."""
    for file in runtime.rglob("minivirtd.pid"):
        try:
            pidfd = os.pidfd_open(int(file.read_text()))
        except (OSError, ValueError):
            continue
        _end(pidfd)


def _end(pidfd: int) -> None:
    """End the process, and wait until it is gone."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        select.select([pidfd], [], [], _WAIT_S)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _must(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ClewError(f"`{command(words)}` failed: {said}.", "`clew doctor` says what is missing here.")


@contextmanager
def _libvirt(args: argparse.Namespace) -> Iterator[list[str]]:
    """A throw-away guest on the machine's libvirt; daemons that were not running are ended again."""
    for program, package in (("virsh", "libvirt-clients"), ("libvirtd", "libvirt-daemon-system")):
        if shutil.which(program) is None and shutil.which(f"/usr/sbin/{program}") is None:
            raise CommandNotFound(f"There is no {program} here.", f"On Debian: apt install {package}")
    name = f"{_GUEST}-{os.getpid()}"
    with _daemons(), tempfile.TemporaryDirectory(prefix="clew-demo-") as folder:
        xml = Path(folder) / "guest.xml"
        xml.write_text(_DOMAIN.format(name=name))
        _must(["virsh", "-q", "define", str(xml)])
        try:
            yield ["virsh", "start", name]
        finally:
            for action in ("destroy", "undefine"):
                subprocess.run(["virsh", "-q", action, name], capture_output=True, check=False)


@contextmanager
def _daemons() -> Iterator[None]:
    """libvirtd and virtlogd, started if nobody answers in their place (systemd starts them when asked)."""
    started: list[int] = []
    with tempfile.TemporaryDirectory(prefix="clew-demo-") as folder:
        try:
            if os.geteuid() == 0 and not _connects(_VIRTLOGD):
                started.append(_start("virtlogd", Path(folder)))
            if not _answers():
                started.append(_start("libvirtd", Path(folder)))
                _until_it_answers()
            yield
        finally:
            for pidfd in reversed(started):
                _end(pidfd)


def _start(daemon: str, folder: Path) -> int:
    """Start a daemon; a pidfd of it."""
    told = folder / f"{daemon}.pid"
    _must([shutil.which(daemon) or f"/usr/sbin/{daemon}", "-d", "-p", str(told)])
    return os.pidfd_open(int(told.read_text()))


def _connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def _answers() -> bool:
    return subprocess.run(["virsh", "-q", "list"], capture_output=True, check=False).returncode == 0


def _until_it_answers() -> None:
    deadline = time.monotonic() + _WAIT_S
    while not _answers():
        if time.monotonic() > deadline:
            raise ClewError("libvirtd does not answer.", "Its log says why: journalctl -u libvirtd")
        time.sleep(0.1)
