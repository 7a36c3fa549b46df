"""One run of a virtual machine: boots an image, hands it a second disk, and takes what it reports.

The machine writes its report to its second serial port, which is a file here.  Its disk is never changed.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from kernels.image import Image

MEMORY_MIB = 6144
"""Half of it is /tmp: an emulated start of libvirt with all backtraces has filled 1.5 GiB."""
ACCELERATOR = "tcg,thread=single"
"""Emulated, for KVM within a virtual machine cannot be relied on.  By one thread: attaching to a tracepoint
changes the kernel's code while other processors run it, which with a thread for each processor ended in
``Oops: int3`` in code that was no longer a breakpoint, or in a lockup (QEMU 7.2)."""
PROCESSORS = 2
_KERNEL_WORDS = (
    "console=ttyS0 root=/dev/vda ro rw rootfstype=ext4 fastboot init=/sbin/clew-init"
    " panic=-1 mitigations=off quiet"
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: ``in_time``, or cut off at its limit."""

    in_time: bool
    report: str


def boot(image: Image, payload: Path, place: Path, limit_s: float, shown: bool) -> Ended:
    """Run the machine to its end, its console in ``place``/console (``shown``: on stdout)."""
    report = place / "report"
    console = "stdio" if shown else f"file:{place / 'console'}"
    command = [
        *("qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-machine", "q35"),
        *(
            "-accel",
            ACCELERATOR,
            "-cpu",
            "max",
            "-smp",
            str(PROCESSORS),
            "-m",
            str(MEMORY_MIB),
        ),
        *("-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", _KERNEL_WORDS),
        *("-drive", f"file={image.disk},if=virtio,format=raw,snapshot=on"),
        *("-drive", f"file={payload},if=virtio,format=raw,readonly=on"),
        *("-serial", console, "-serial", f"file:{report}"),
    ]
    with (place / "qemu").open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=said)
        try:
            process.wait(limit_s)
            in_time = process.returncode == 0
        except subprocess.TimeoutExpired:
            in_time = False
        finally:
            process.kill()
            process.wait()
    return Ended(in_time, report.read_text(errors="replace") if report.exists() else "")
