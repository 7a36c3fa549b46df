"""A root file system of one release: debootstrap, its packages, its kernel, and clew's dependencies."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from kernels import progress
from kernels.progress import say
from kernels.releases import KERNEL_PACKAGE, PACKAGES, Release

TREE = Path(__file__).resolve().parent.parent
PYTHON_LIBRARIES = "/opt/clew-python"
"""Where clew's dependencies lie in a root."""

INIT = Path(__file__).parent / "guest" / "init.sh"
_APT = """Acquire::Check-Valid-Until "false";
Acquire::Retries "5";
Dpkg::Options { "--force-unsafe-io"; "--force-confold"; };
"""
_MODULES = "virtio_pci\nvirtio_blk\next4\n"
_INITRAMFS = "MODULES=list\nFSTYPE=ext4\nCOMPRESS=gzip\n"
_PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)


def ingredients(release: Release) -> tuple[object, ...]:
    """All that decides what a root will be, but for the state of the archive."""
    return release.suite, KERNEL_PACKAGE, PACKAGES, requirements(), INIT.read_text(), _APT, _INITRAMFS


def requirements() -> list[str]:
    """What clew and its tests import, from pyproject.toml."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    tests = ("pytest", "jsonschema")
    return [
        *project["dependencies"],
        *(d for d in project["optional-dependencies"]["dev"] if d.startswith(tests)),
    ]


def build(release: Release, root: Path, log: Path) -> None:
    """Make the root in ``root``, an empty folder.  Raises StepFailed."""
    say(f"{release.name}: debootstrap")
    mirror = [mirror_here()] if mirror_here() else []
    command = ["debootstrap", "--variant=minbase", release.suite, str(root), *mirror]
    progress.run(command, log, tries=3)
    _settings(root)
    say(f"{release.name}: installing its kernel, Python, compilers and libvirt")
    _in_root(root, log, "apt-get update -q", tries=3)
    packages = " ".join((*PACKAGES, KERNEL_PACKAGE))
    _in_root(root, log, f"apt-get install -y -q --no-install-recommends {packages}", tries=3)
    shutil.rmtree(root / "var/cache/apt")
    say(f"{release.name}: clew's dependencies from PyPI")
    _libraries(root, log)


def mirror_here() -> str:
    """The archive that this machine's apt uses, if it is Debian's; "" lets debootstrap choose."""
    form = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        origin, label, address = line.split("|", 2)
        if (origin, label) == ("Debian", "Debian"):
            return address
    return ""


def _settings(root: Path) -> None:
    files = {
        "etc/apt/apt.conf.d/90clew": _APT,
        "etc/initramfs-tools/modules": _MODULES,
        "etc/initramfs-tools/conf.d/clew": _INITRAMFS,
        # No daemon is started while packages are installed (invoke-rc.d(8)).
        "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
        "sbin/clew-init": INIT.read_text(),
        "etc/hostname": "clew-kernels\n",
        "etc/hosts": "127.0.0.1 localhost clew-kernels\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in ("usr/sbin/policy-rc.d", "sbin/clew-init"):
        (root / name).chmod(0o755)


def _in_root(root: Path, log: Path, command: str, tries: int = 1) -> None:
    """Run a shell command in the root, with a /proc that goes when the command ends."""
    script = 'mount -t proc proc "$1/proc" && exec chroot "$1" sh -c "$2"'
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C",
    }
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(root), command]
    progress.run(words, log, tries=tries, environment=environment)


def python_version(root: Path) -> str:
    """The version (3.13) of the root's Python."""
    found = (root / "usr/bin/python3").readlink().name
    return found.removeprefix("python")


def _libraries(root: Path, log: Path) -> None:
    where = ["--target", str(root / PYTHON_LIBRARIES.lstrip("/")), "--python-version", python_version(root)]
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    only = ["--implementation", "cp", "--only-binary=:all:"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-compile"]
    progress.run([*pip, *where, *only, *platforms, *requirements()], log, tries=3)
    compile_all = f"python3 -m compileall -q {PYTHON_LIBRARIES}"
    _in_root(root, log, f"{compile_all} || true")
