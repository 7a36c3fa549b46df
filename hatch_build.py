"""Builds what is not Python when clew is installed: the BPF objects, and the ptrace engine's tracer.

Each probes/*.bpf.c becomes a .bpf.o beside it.  clang makes them where it is installed; elsewhere the clang
inside ``ziglang`` (a wheel, fetched for the build only) does.  The probes bring their own view of the kernel,
so no kernel headers are needed.  CLANG names another clang.

A wheel also holds the example that ``clew demo`` runs, and the tracer's executable.  In an editable install
clew builds that by itself whenever its source changed, so there it is built only if no C compiler will be
found then.
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
TRACER = Path("src/clew/engine/ptrace/tracer")
GENERATED = PROBES / "generated"
FLAGS = ("-O2", "-g", "-mcpu=v3", "-Wall")
EXAMPLE = Path("examples/minivirt")
TRACER_FLAGS = ("-std=gnu17", "-O2", "-g", "-Wall")
ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm64"}


class BpfBuildHook(BuildHookInterface[Any]):
    """Hatchling's way in (``[tool.hatch.build.targets.wheel.hooks.custom]``)."""

    def dependencies(self) -> list[str]:
        """What else the build needs: a compiler, only where there is none."""
        return [] if installed_clang() and installed_cc() else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell the wheel that it holds something of this machine's kind."""
        write_header(Path(self.root))
        compiler = bpf_compiler()
        for source in sorted((Path(self.root) / PROBES).glob("*.bpf.c")):
            compile_probe(compiler, source)
        editable = version == "editable"
        if not editable or not installed_cc():
            compile_tracer(Path(self.root) / TRACER)
        if not editable:
            build_data["force_include"].update(example_files(Path(self.root)))
        machine = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        # Any Python 3 will do, but only one architecture: a probe reads that one's registers.
        build_data["tag"] = f"py3-none-{machine}"
        build_data["pure_python"] = False


def write_header(root: Path) -> None:
    """Give C what it shares with Python.  Those modules need nothing that is not installed yet."""
    sys.path.insert(0, str(root / "src"))
    try:
        from clew.engine.described import NAME, header
    finally:
        sys.path.pop(0)
    (root / GENERATED).mkdir(exist_ok=True)
    (root / GENERATED / NAME).write_text(header())


def example_files(root: Path) -> dict[str, str]:
    """What ``clew demo`` runs: each file of the example, and its place in the wheel."""
    scripts = (path for path in (root / EXAMPLE).iterdir() if path.is_file())
    files = [*scripts, *(root / EXAMPLE / "minivirt").glob("*.py")]
    return {str(path): str(Path("clew") / path.relative_to(root)) for path in files}


def installed_clang() -> str | None:
    """The path of a clang that can compile BPF; None if there is none."""
    found = shutil.which(os.environ.get("CLANG") or "clang")
    if not found:
        return None
    targets = subprocess.run([found, "--print-targets"], capture_output=True, text=True, check=False)
    return found if " bpf " in targets.stdout else None


def installed_cc() -> str | None:
    """The path of a C compiler for programs of this machine; None if there is none."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


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
    flags = (*FLAGS, f"-D__TARGET_ARCH_{architecture}", "-c")
    return _compile([*compiler, *flags, str(source)], result, fresh)


def compile_tracer(folder: Path) -> Path:
    """Compile the tracer; returns the executable, which lies beside ``folder``."""
    cc = installed_cc()
    compiler = [cc] if cc else [sys.executable, "-m", "ziglang", "cc"]
    result = folder.parent / "clew-tracer"
    sources = [str(path) for path in sorted(folder.glob("*.c"))]
    include = f"-I{folder.parent.parent / 'bpf' / 'probes' / GENERATED.name}"
    return _compile(
        [*compiler, *TRACER_FLAGS, include, *sources], result, result.with_suffix(f".{os.getpid()}")
    )


def _compile(command: list[str], result: Path, fresh: Path) -> Path:
    try:
        done = subprocess.run([*command, "-o", str(fresh)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"cannot compile {result.name}: {' '.join(command)}\n{done.stderr}")
        # A rename, so that a clew that is just starting never loads half a file.
        fresh.replace(result)
    finally:
        fresh.unlink(missing_ok=True)
    return result
