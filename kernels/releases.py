"""The releases whose kernels are tried: which suite of Debian ships which kernel, and what is installed."""

from __future__ import annotations

from dataclasses import dataclass

KERNEL_PACKAGE = "linux-image-cloud-amd64"
"""Its kernel has the drivers that a virtual machine needs, and little else."""

PACKAGES = (
    "binutils",
    "busybox-static",
    "clang",
    "g++",
    "gcc",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "libbpf1",
    "libc6-dev",
    "libvirt-clients",
    "libvirt-daemon-driver-qemu",
    "libvirt-daemon-system",
    "python3",
    "qemu-system-x86",
)
"""What the checks need of a release: its Python, its libbpf, its libvirt and its compilers."""


@dataclass(frozen=True, slots=True)
class Release:
    """One release.  ``kernel`` is the series it ships, or ``newest``."""

    kernel: str
    suite: str
    name: str


RELEASES = (
    Release("6.1", "bookworm", "Debian 12"),
    Release("6.12", "trixie", "Debian 13"),
    Release("newest", "testing", "Debian testing"),
)


def release_for(word: str) -> Release:
    """The release that ``word`` (6.1, trixie, newest) means.  Any other number is looked for in testing."""
    for release in RELEASES:
        if word in (release.kernel, release.suite):
            return release
    if word.replace(".", "").isdigit():
        return Release(word, "testing", "Debian testing")
    known = ", ".join(f"{release.kernel} ({release.suite})" for release in RELEASES)
    raise SystemExit(f"kernels: there is no {word!r}; there are: {known}, and a version that testing has")
