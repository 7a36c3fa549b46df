"""What a virtual machine boots from, made of a root: a disk image, the kernel and its initramfs."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kernels import cache, progress, root
from kernels.progress import StepFailed, say
from kernels.releases import Release

_FREE_MIB = 600


@dataclass(frozen=True, slots=True)
class Image:
    """A release that can be booted.  ``root`` is the folder that ``disk`` was made of."""

    release: Release
    folder: Path

    @property
    def root(self) -> Path:
        """The root file system, to run compilers in."""
        return self.folder / "root"

    @property
    def disk(self) -> Path:
        """An ext4 file system, never written to."""
        return self.folder / "disk.ext4"

    @property
    def kernel_version(self) -> str:
        """As ``uname -r`` says it there."""
        return _one(self.root / "boot", "vmlinuz-*").name.partition("-")[2]

    @property
    def kernel(self) -> Path:
        """The kernel to boot."""
        return _one(self.root / "boot", "vmlinuz-*")

    @property
    def initramfs(self) -> Path:
        """Its modules for the disk."""
        return _one(self.root / "boot", "initrd.img-*")


def image(release: Release, fresh: bool = False) -> Image:
    """The release's image, from the cache or built.  Raises StepFailed."""
    of = cache.key(*root.ingredients(release))
    found = Image(release, cache.entry(release.suite, of, lambda place: _build(release, place), fresh))
    wanted, there = release.kernel, found.kernel_version
    if wanted[0].isdigit() and not re.match(re.escape(wanted) + r"(\.|-|\+|$)", there):
        raise StepFailed(
            f"{release.name} has Linux {there}, not {wanted}.  `--fresh` looks for what it has today."
        )
    return found


def _build(release: Release, place: Path) -> None:
    log = place / "log"
    made = place / "root"
    made.mkdir()
    root.build(release, made, log)
    say(f"{release.name}: making a disk image")
    size = sum(path.lstat().st_blocks for path in made.rglob("*")) // 2048
    plain = ("-q", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1")
    contents = ("-d", made, place / "disk.ext4", f"{size * 5 // 4 + _FREE_MIB}M")
    progress.run([shutil.which("mke2fs") or "/sbin/mke2fs", *plain, *contents], log)


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise StepFailed(f"{folder} should hold one {pattern}: {found or 'none is there'}")
    return found[0]
