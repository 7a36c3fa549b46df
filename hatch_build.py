"""Builds the BPF objects when clew is installed: each probes/*.bpf.c becomes a .bpf.o beside it.

clang makes them where it is installed; elsewhere the clang inside ``ziglang`` (a wheel, fetched for the build
only) does.  The probes bring their own view of the kernel, so no kernel headers are needed.  CLANG names
another clang.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROBES = Path("src/clew/engine/bpf/probes")
FLAGS = ("-O2", "-g", "-mcpu=v3", "-Wall")
ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm64"}


class BpfBuildHook(BuildHookInterface[Any]):
    """Hatchling's way in (``[tool.hatch.build.targets.wheel.hooks.custom]``)."""

    def dependencies(self) -> list[str]:
        """What else the build needs: a compiler, only where there is none."""
        return [] if installed_clang() else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell the wheel that it holds something of this machine's kind."""
        compiler = bpf_compiler()
        for source in sorted((Path(self.root) / PROBES).glob("*.bpf.c")):
            compile_probe(compiler, source)
        machine = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        # Any Python 3 will do, but only one architecture: a probe reads that one's registers.
        build_data["tag"] = f"py3-none-{machine}"
        build_data["pure_python"] = False


def installed_clang() -> str | None:
    """The path of a clang that can compile BPF; None if there is none."""
    found = shutil.which(os.environ.get("CLANG") or "clang")
    if not found:
        return None
    targets = subprocess.run([found, "--print-targets"], capture_output=True, text=True, check=False)
    return found if " bpf " in targets.stdout else None


def bpf_compiler() -> list[str]:
    """The command that compiles for BPF, up to the flags."""
    clang = installed_clang()
    if clang:
        return [clang, "-target", "bpf"]
    return [sys.executable, "-m", "ziglang", "cc", "-target", "bpfel-freestanding"]


def compile_probe(compiler: list[str], source: Path) -> Path:
    """Compile one probe; returns the object.  Exits with the compiler's words if it refuses."""
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    result = source.with_suffix(".o")
    fresh = source.with_suffix(f".{os.getpid()}.o")
    command = [*compiler, *FLAGS, f"-D__TARGET_ARCH_{architecture}", "-c", str(source), "-o", str(fresh)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"cannot compile {source.name}: {' '.join(command)}\n{done.stderr}")
        # A rename, so that a clew that is just starting never loads half an object.
        fresh.replace(result)
    finally:
        fresh.unlink(missing_ok=True)
    return result
