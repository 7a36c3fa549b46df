"""All checks of one kernel, or those named, each in a process of its own with a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kernels.guest import follows, holds, load
from kernels.guest.report import tell


@dataclass(frozen=True, slots=True)
class Check:
    """A thing to try.  ``run`` gives what was found, or raises; ``limit_s`` is for a slow machine."""

    name: str
    run: Callable[[], str]
    limit_s: float = 180
    lacks: Callable[[], str] | None = None
    """Asked for what the kernel lacks for it; "" if nothing."""


def checks() -> dict[str, Check]:
    """All of them, in the order in which they are made."""
    found = [Check(f"load {where.name}", partial(load.all_of, where), 300) for where in object_folders()]
    found.append(Check("stacks", follows.stacks))
    for name, run in holds.ways("bpf").items():
        found.append(Check(f"bpf {name}", run, lacks=holds.lacks_for_crashes if name == "crash" else None))
    found += [Check(f"ptrace {name}", run) for name, run in holds.ways("ptrace").items()]
    found += [
        Check("storm", holds.storm),
        Check("killed", holds.killed),
        Check("minivirt bpf", lambda: follows.minivirt("bpf"), 300),
        Check("minivirt ptrace", lambda: follows.minivirt("ptrace"), 300),
        Check("libvirt", follows.libvirt, 600),
        Check("ground truth bpf", lambda: follows.ground_truth("bpf"), 900),
        Check("ground truth ptrace", lambda: follows.ground_truth("ptrace"), 900),
    ]
    return {check.name: check for check in found}


def object_folders() -> list[Path]:
    """Folders of objects, named by the compiler that made them."""
    home = os.environ.get("CLEW_KERNELS")
    return sorted(path for path in Path(home, "objects").glob("*") if path.is_dir()) if home else []


SLOW = ("ground truth bpf", "ground truth ptrace")
"""What is left out unless it is named, or ``--all`` is: it takes minutes."""


def main(names: list[str]) -> int:
    """Run those named, or all."""
    known = checks()
    if names[:1] == ["--one"]:
        return _one(known[names[1]])
    everything = [check for name, check in known.items() if name not in SLOW or names == ["--all"]]
    wanted = everything if names in ([], ["--all"]) else [known[name] for name in names]
    tell(kernel=os.uname().release, checks=[check.name for check in wanted])
    for check in wanted:
        lacks = check.lacks() if check.lacks else ""
        found = {"ok": False, "said": "", "lacks": lacks} if lacks else _apart(check)
        tell(check=check.name, **found)
    tell(done=True)
    return 0


def _apart(check: Check) -> dict[str, object]:
    """What a check found, made by a process of its own: one that hangs is ended, with all it started."""
    began = time.monotonic()
    command = [sys.executable, "-m", "kernels.guest.check", "--one", check.name]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=check.limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        err += f"not done after {check.limit_s:.0f} s".encode()
    said = (out if process.returncode == 0 else err).decode(errors="replace").strip()
    return {
        "ok": process.returncode == 0,
        "said": said[-3000:],
        "seconds": round(time.monotonic() - began, 1),
    }


def _one(check: Check) -> int:
    print(check.run())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
