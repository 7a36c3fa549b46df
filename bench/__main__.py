"""``python -m bench [NAME...]``: what recording, following and holding cost, beside strace and perf.

Nothing is asserted: figures are printed, with the bars they should keep.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench import (
    hold_cost,
    hold_execs,
    hold_killed,
    hold_met,
    hold_soak,
    html_page,
    rebuild,
    record_calls,
    record_command,
    record_flood,
    record_idle,
    record_stacks,
)
from bench.accuracy import main as accuracy
from bench.record_pairs import title


def _rebuild() -> None:
    title("rebuilding a path; the bars are 3 s, 30 s, 2 GiB")
    rebuild.main([1_000_000, 10_000_000])


BENCHES: dict[str, Callable[[], object]] = {
    "calls": record_calls.main,
    "stacks": record_stacks.main,
    "flood": record_flood.main,
    "idle": record_idle.main,
    "command": record_command.main,
    "rebuild": _rebuild,
    "html": html_page.main,
    "hold": hold_execs.main,
    "hold-cost": hold_cost.main,
    "hold-met": hold_met.main,
    "hold-killed": hold_killed.main,
}


def _accuracy() -> None:
    accuracy.main()


LONG: dict[str, Callable[[], object]] = {"hold-soak": hold_soak.main, "accuracy": _accuracy}
"""Run where they are named only."""


def main(names: list[str]) -> None:
    """Run those named, or all."""
    for name in names:
        if name not in BENCHES | LONG:
            raise SystemExit(f"bench: there is no {name!r}; there are: {', '.join(BENCHES | LONG)}")
    for name in names or BENCHES:
        (BENCHES | LONG)[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
