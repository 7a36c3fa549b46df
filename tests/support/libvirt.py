"""A stock libvirt of the test's own: the machine's daemons and QEMU, on private state folders.

The system's daemons run as root and as packaged, in a mount namespace where /run, libvirt's folders and the
QEMU file belong to the test alone: the machine's own libvirt and its guests are not touched.  An ordinary
user's daemon has its folders below that user's home anyway, and is given a home for the test.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.bounded import until

QEMU = "qemu-system-x86_64"
UNTIL = f"exec:*{QEMU}"

# /run is a tmpfs of ours.  QEMU is a copy of itself, so that new time stamps make what libvirt knows of it
# stale (virQEMUCapsIsValid compares them) without touching the machine's file.  A /dev/kvm that root may use
# and QEMU's user may not makes libvirt probe at every start; one that nobody can use does not.
_PRIVATE = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/clew-test/etc
for folder in /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    mkdir -p $folder
    mount -t tmpfs tmpfs $folder
done
cp -a /etc/libvirt/. /run/clew-test/etc
rm -rf /run/clew-test/etc/qemu/*.xml /run/clew-test/etc/qemu/autostart /run/clew-test/etc/qemu/networks/*
mount --bind /run/clew-test/etc /etc/libvirt
cp "$1" /run/clew-test/qemu
mount --bind /run/clew-test/qemu "$1"
if [ -e /dev/kvm ]; then
    mknod -m 600 /run/clew-test/kvm c 1 3
    mount --bind /run/clew-test/kvm /dev/kvm
fi
echo ready
exec cat
"""
_DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64'>hvm</type></os></domain>"""
_ENVIRONMENT = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


NOBODY = 65534
_AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env")


@dataclass(frozen=True, slots=True)
class Libvirt:
    """A running libvirtd.  ``namespace`` is a process in its mount namespace, ``daemon`` libvirtd's pid."""

    namespace: int
    daemon: int

    def inside(self, *command: str) -> list[str]:
        """The command line that runs ``command`` where this libvirt is the machine's."""
        return ["nsenter", f"--mount=/proc/{self.namespace}/ns/mnt", f"--wdns={Path.cwd()}", "--", *command]

    def run(self, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
        """Run ``command`` there; its status is not checked."""
        return subprocess.run(
            self.inside(*command), env=_ENVIRONMENT, capture_output=True, timeout=timeout, check=False
        )

    def processes(self) -> list[bytes]:
        """Names of the processes that run there (guests have a namespace of their own again)."""
        own = Path(f"/proc/{self.namespace}/ns/mnt").stat()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.path.samestat((folder / "ns" / "mnt").stat(), own):
                    found.append((folder / "comm").read_bytes().strip())
        return found

    def forget_capabilities(self) -> None:
        """Make what libvirt knows of QEMU stale: the next start probes it anew."""
        # libvirt compares whole seconds, and the file may have been made in this one.
        changed = 'was=$(stat -c %Z "$1"); until [ "$(stat -c %Z "$1")" != "$was" ]; do touch "$1"; done'
        done = self.run("sh", "-c", changed, "sh", f"/usr/bin/{QEMU}")
        assert done.returncode == 0, done.stderr

    @contextmanager
    def guest(self, name: str) -> Iterator[str]:
        """A guest of that name, defined and not started; gone afterwards."""
        define = f'printf %s "$1" > /run/clew-test/{name}.xml && virsh -q define /run/clew-test/{name}.xml'
        done = self.run("sh", "-c", define, "sh", domain(name))
        assert done.returncode == 0, done.stderr
        try:
            yield name
        finally:
            self.run("virsh", "-q", "destroy", name)
            self.run("virsh", "-q", "undefine", name)


@dataclass(frozen=True, slots=True)
class Session:
    """An ordinary user's libvirt, whose daemon virsh starts when it finds none."""

    home: Path

    def virsh(self, *words: str) -> list[str]:
        """The command line by which root lets the user run virsh."""
        folders = (f"HOME={self.home}", f"XDG_RUNTIME_DIR={self.home}")
        return [*_AS_NOBODY, *folders, "virsh", "-c", "qemu:///session", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run virsh; its status is not checked."""
        return subprocess.run(
            self.virsh(*words), env=_ENVIRONMENT, capture_output=True, timeout=60, check=False
        )

    def end_daemons(self) -> None:
        """End the daemons that were started on demand."""
        for file in self.home.glob("libvirt/*.pid"):
            _end(int(file.read_text()))


def domain(name: str) -> str:
    """The smallest guest there is: 64 MiB, no disk, emulated."""
    return _DOMAIN.format(name=name)


@contextmanager
def session_libvirt(home: Path) -> Iterator[Session]:
    """A user's libvirt with its home in ``home``, an empty folder that the user can reach."""
    os.chown(home, NOBODY, NOBODY)
    session = Session(home)
    try:
        yield session
    finally:
        session.end_daemons()


@contextmanager
def private_folders() -> Iterator[Libvirt]:
    """A libvirt whose daemons do not run: fresh folders, and nothing in them.  ``daemon`` is 0."""
    which = subprocess.run(
        ["sh", "-c", f"command -v {QEMU}"], env=_ENVIRONMENT, capture_output=True, text=True, check=True
    )
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", _PRIVATE, "sh", which.stdout.strip()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_ENVIRONMENT,
    ) as namespace:
        assert namespace.stdout is not None
        assert namespace.stdout.readline() == b"ready\n"
        try:
            yield Libvirt(namespace.pid, 0)
        finally:
            namespace.communicate()


@contextmanager
def private_libvirt() -> Iterator[Libvirt]:
    """Start virtlogd and libvirtd on fresh folders, and end them and what they started."""
    with private_folders() as folders:
        started: list[int] = []
        try:
            for daemon in ("virtlogd", "libvirtd"):
                started.append(_daemon(folders.namespace, daemon))
            libvirt = Libvirt(folders.namespace, started[-1])
            until(lambda: libvirt.run("virsh", "-q", "list").returncode == 0, 60, "libvirtd answers")
            yield libvirt
        finally:
            for pid in reversed(started):
                _end(pid)


def _daemon(namespace: int, program: str) -> int:
    """Start a daemon in the namespace; its pid."""
    inside = Libvirt(namespace, 0)
    done = inside.run(program, "-d")
    assert done.returncode == 0, done.stderr
    told = until(lambda: inside.run("cat", f"/run/{program}.pid").stdout, what=f"{program} tells its pid")
    return int(told)


def _end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(pidfd):
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{pid}").exists(), 30, f"process {pid} ends")
