"""All checks on one kernel: boots it, passes on what it reports as it comes, and says what was found."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from kernels import cache, machine, payload, results
from kernels.image import Image
from kernels.progress import say
from kernels.results import Result, Results
from kernels.root import TREE

_CHECK = "python3 -m kernels.guest.check"
HERE = "here"


def on(image: Image, objects: Sequence[Path], checks: Sequence[str], limit_s: float) -> Results:
    """Run the checks (all, if none is named) on the image's kernel."""
    name = image.release.name
    say(f"{name}: booting Linux {image.kernel_version}")
    with tempfile.TemporaryDirectory(prefix="clew-kernels-") as folder:
        place = Path(folder)
        more = {f"objects/{one.name}/{each.name}": each for one in objects for each in one.glob("*.bpf.o")}
        words = " ".join(f"'{check}'" for check in checks)
        payload.write(place / "payload", f"dmesg -n 7; CLEW_KERNELS_REPORT=/dev/ttyS1 {_CHECK} {words}", more)
        report = place / "report"
        report.touch()
        with _told(report, name):
            ended = machine.boot(image, place / "payload", place, limit_s, shown=False)
        found = results.read(ended.report, name)
        if not found.good:
            _why(found, ended, place)
    return found


def here(objects: Sequence[Path], checks: Sequence[str]) -> Results:
    """The same on the kernel that runs now, without a machine."""
    with tempfile.TemporaryDirectory(prefix="clew-kernels-") as folder:
        place = Path(folder)
        (place / "objects").mkdir()
        for one in objects:
            (place / "objects" / one.name).symlink_to(one)
        report = place / "report"
        report.touch()
        environment = {**os.environ, "CLEW_KERNELS": folder, "CLEW_KERNELS_REPORT": str(report)}
        environment["PYTHONPATH"] = f"{TREE}/src:{TREE}"
        with _told(report, "this machine"):
            subprocess.run(
                [sys.executable, *_CHECK.split()[1:], *checks], env=environment, cwd=TREE, check=False
            )
        return results.read(report.read_text(), "another machine")


def show(found: Results) -> None:
    """How it went, with what failed."""
    faults = [result for result in found.results if result.fault]
    for result in faults:
        print(f"\nFAULT  {found.release}, Linux {found.kernel}: {result.check}\n{_indented(result.said)}")
    for name in found.missing:
        print(f"\nFAULT  {found.release}, Linux {found.kernel or '?'}: {name}: told nothing")
    lacking = [result for result in found.results if result.lacks]
    good = len(found.results) - len(faults) - len(lacking)
    print(
        f"{found.release}, Linux {found.kernel or '?'}: {good} ok, {len(lacking)} lacking, "
        f"{len(faults) + len(found.missing)} faults",
        flush=True,
    )


def place_of(release: str) -> Path:
    """Where the results of a release are kept."""
    return cache.folder() / "results" / f"{release}.json"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


class _told:
    """Says each result when it is reported; the file grows while the machine runs."""

    def __init__(self, report: Path, name: str) -> None:
        self._report, self._name = report, name
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        told, ended = 0, False
        while not ended:
            ended = self._done.wait(1.0)  # once more after that: the last results come just before
            text = self._report.read_text(errors="replace")
            found = results.read(text[: text.rfind("\n") + 1], self._name).results
            for result in found[told:]:
                say(f"{self._name}: {_line(result)}")
            told = len(found)


def _line(result: Result) -> str:
    word = "ok" if result.ok else f"lacks {result.lacks}" if result.lacks else "FAULT"
    return f"{result.check}: {word}, {result.seconds:.0f} s"


def _why(found: Results, ended: machine.Ended, place: Path) -> None:
    """The end of the console, where the machine did not come to its end."""
    if ended.in_time and not found.missing:
        return
    say(f"{found.release}: the machine ended before its checks did; the end of its console:")
    for file in ("console", "qemu"):
        text = (place / file).read_text(errors="replace") if (place / file).exists() else ""
        print(_indented("\n".join(text.splitlines()[-120:])), file=sys.stderr)
