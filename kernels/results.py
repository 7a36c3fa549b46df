"""What the checks of one kernel found, as the machine reported it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Result:
    """A check: ``ok``; what the kernel ``lacks`` for it; or, neither, a fault.  ``said``: what it found."""

    check: str
    ok: bool
    said: str
    lacks: str = ""
    seconds: float = 0.0

    @property
    def fault(self) -> bool:
        """Whether clew failed where the kernel lacks nothing."""
        return not self.ok and not self.lacks


@dataclass(frozen=True, slots=True)
class Results:
    """All of one kernel.  ``expected`` are the checks that were to be made."""

    kernel: str
    release: str
    expected: tuple[str, ...]
    results: tuple[Result, ...] = field(default=())

    @property
    def missing(self) -> list[str]:
        """Checks that were to be made and told nothing: the machine ended before."""
        told = {result.check for result in self.results}
        return [name for name in self.expected if name not in told]

    @property
    def good(self) -> bool:
        """Whether every check was made and none found a fault.  Of no checks at all: no."""
        return bool(self.expected) and not self.missing and not any(result.fault for result in self.results)

    def of(self, check: str) -> Result | None:
        """What that check found."""
        return next((result for result in self.results if result.check == check), None)


def read(report: str, release: str) -> Results:
    """From the lines that a machine reported; lines that are no report are passed over."""
    kernel = ""
    expected: tuple[str, ...] = ()
    results: list[Result] = []
    for line in report.splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if "checks" in told:
            kernel, expected = str(told["kernel"]), tuple(map(str, told["checks"]))
        elif "check" in told:
            results.append(Result(**told))
    return Results(kernel, release, expected, tuple(results))


def keep(found: Results, place: Path) -> None:
    """Write them, to be put into the table of all kernels."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(asdict(found), indent=1))


def kept(place: Path) -> Results:
    """Those that were kept."""
    told = json.loads(place.read_text())
    return Results(**{**told, "expected": tuple(told["expected"]),
                      "results": tuple(Result(**each) for each in told["results"])})  # fmt: skip
