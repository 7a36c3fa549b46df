"""``./x bench accuracy [DESIGN...]``: the table of ``docs/accuracy.md``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.accuracy.measure import Design, measure
from bench.accuracy.score import Score

DESIGNS = (
    Design("thread_per_connection"),
    Design("pool_gets_job"),
    Design("event_loop_upstream"),
)
IN_FLIGHT = (1, 4, 16, 64)


def main(names: Sequence[str] = (), requests: int = 128) -> None:
    """Measure, and print."""
    for design in DESIGNS:
        if names and design.name not in names:
            continue
        for in_flight in IN_FLIGHT:
            print(f"{design.name}, {in_flight} in flight", flush=True)
            for one in measure(design, in_flight, requests):
                print(f"  {line(one)}", flush=True)
                for fault in one.faults[:3] if one.rule.startswith("clew") else ():
                    print(f"      {fault}")


def line(one: Score) -> str:
    """One rule's figures."""
    n = max(1, one.effects)
    precision = one.right / one.told if one.told else 0.0
    recall = one.right / one.true if one.true else 0.0
    return (
        f"{one.rule:18} effects {one.effects:5}  exact {one.exact / n:7.2%}  wrong {one.wrong / n:7.2%}  "
        f"ambiguous {one.ambiguous / n:7.2%}  lost {one.lost / n:7.2%}  "
        f"precision {precision:7.2%}  recall {recall:7.2%}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
