"""The second disk of a virtual machine: a tar archive with the checkout and what to do there."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from kernels.root import PYTHON_LIBRARIES, TREE

IN_GUEST = "/run/clew-kernels"
BUILT = ("src/clew/engine/bpf/probes/*.bpf.o", "src/clew/engine/ptrace/clew-tracer")
"""What a build leaves in the tree, and git does not list."""

_RUN = """cd {here}/tree
export PYTHONPATH={here}/tree/src:{here}/tree:{libraries} PYTHONDONTWRITEBYTECODE=1
export CLEW_KERNELS={here}
{command}
"""


def write(place: Path, command: str, more: Mapping[str, Path]) -> None:
    """Make the archive ``place``, whose ``run.sh`` runs ``command``; ``more``: other files by their name."""
    script = _RUN.format(here=IN_GUEST, libraries=PYTHON_LIBRARIES, command=command)
    with tarfile.open(place, "w") as archive:
        _text(archive, "run.sh", script)
        for path in tree_files():
            archive.add(path, f"tree/{path.relative_to(TREE)}", recursive=False)
        for name, path in sorted(more.items()):
            archive.add(path, name)


def tree_files() -> list[Path]:
    """Every file of the checkout as it is now, committed or not, and what a build left beside them."""
    listed = ["git", "-C", str(TREE), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, check=True, capture_output=True).stdout.decode().split("\0")
    built = [path for pattern in BUILT for path in TREE.glob(pattern)]
    return [path for path in (*(TREE / name for name in names if name), *built) if path.is_file()]


def _text(archive: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text.encode())
    archive.addfile(entry, io.BytesIO(text.encode()))
