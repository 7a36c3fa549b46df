"""The BPF objects by every compiler there is: the clang of each release, and the clang in ziglang."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from hatch_build import ARCHITECTURES, FLAGS, PROBES
from kernels import cache, progress
from kernels.image import Image
from kernels.progress import say
from kernels.root import TREE

_ZIGLANG = "ziglang>=0.13"
_IN_ROOT = 'mount --bind "$1" "$2/mnt" && mount --bind "$3" "$2/media" && cd / && exec chroot "$2" sh -c "$4"'


def objects(images: Iterable[Image], place: Path) -> list[Path]:
    """Folders of objects below ``place``, each named by its compiler.  Raises StepFailed."""
    log = place / "log"
    made = [_by_clang(image, place, log) for image in images]
    made.append(_by_ziglang(place, log))
    return sorted(set(made))


def _by_clang(image: Image, place: Path, log: Path) -> Path:
    """By the clang of a release, in its root: nothing there is changed."""
    said = _said(["chroot", str(image.root), "clang", "--version"])
    folder = _folder(place, f"clang-{_major(said)}")
    if folder.exists():
        return folder
    folder.mkdir()
    compile_all = " && ".join(f"clang -target bpf {words}" for words in _each("/mnt", "/media"))
    script = ["sh", "-c", _IN_ROOT, "sh", str(TREE), str(image.root), str(folder), compile_all]
    progress.run(["unshare", "--mount", "--propagation", "private", *script], log)
    return folder


def _by_ziglang(place: Path, log: Path) -> Path:
    def install(target: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(target), _ZIGLANG]
        progress.run(pip, log, tries=3)

    library = cache.entry("ziglang", cache.key(_ZIGLANG), install)
    environment = {"PYTHONPATH": str(library), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    said = _said([sys.executable, "-m", "ziglang", "version"], environment)
    folder = _folder(place, f"ziglang-{said.strip()}")
    folder.mkdir()
    for words in _each(str(TREE), str(folder)):
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "bpfel-freestanding", *words.split()]
        progress.run(command, log, environment=environment)
    return folder


def _each(tree: str, folder: str) -> Iterator[str]:
    """The arguments to compile each probe."""
    machine = ARCHITECTURES["x86_64"]
    for source in sorted((TREE / PROBES).glob("*.bpf.c")):
        flags = " ".join((*FLAGS, f"-D__TARGET_ARCH_{machine}", "-c"))
        yield f"{flags} {tree}/{PROBES}/{source.name} -o {folder}/{source.with_suffix('.o').name}"


def _folder(place: Path, name: str) -> Path:
    say(f"compiling the probes with {name}")
    (place / "objects").mkdir(exist_ok=True)
    return place / "objects" / name


def _major(said: str) -> str:
    found = re.search(r"version (\d+)", said)
    return found[1] if found else "unknown"


def _said(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout
