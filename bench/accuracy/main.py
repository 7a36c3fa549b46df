"""``./x bench accuracy [DESIGN...]``: the table of ``docs/accuracy.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from bench.accuracy import page
from bench.accuracy.measure import Design, measure
from bench.accuracy.score import Score

DESIGNS = (
    Design("sequential", "one process, one request after the other"),
    Design("prefork", "four processes that accept in turn"),
    Design("fork_per_connection", "a forked child for each connection"),
    Design("thread_per_connection", "a thread for each connection"),
    Design("pool_reads_client", "a pool: a worker gets the connection, and reads the request"),
    Design("pool_gets_job", "a pool: the main thread reads, a worker gets the job"),
    Design("loop_awaits_child", "an event loop that starts a child for each request"),
    Design("event_loop_upstream", "an event loop that asks an upstream, on kept connections"),
    Design("keep_alive", "an event loop; eight requests on each connection", each=8),
    Design("pipelining", "a thread for each connection, four requests ahead, read at once", 8, 4, told=False),
    Design("publish_subscribe", "an event loop that tells all subscribers"),
    Design("batch_at_end", "an event loop that reads all, then acts, then answers", told=False),
    Design("passed_descriptor", "connections passed unread to other processes (SCM_RIGHTS)"),
    Design("sends_file", "threads that answer by sendfile"),
    Design("coroutines", "a coroutine for each connection, on a stack of its own (ucontext)"),
    Design("saturated_pool", "two workers that are always awake and answer nobody", told=False),
    Design(
        "saturated_pool_queue",
        "the same, its queue named: `--queue call:push,arg=1 call:pop,ret`",
        program="saturated_pool",
        queue=("call:saturated_pool!push,arg=1", "call:saturated_pool!pop,ret"),
    ),
)
IN_FLIGHT = (1, 4, 16, 64)
LEAST = 128


def main(names: Sequence[str] = ()) -> None:
    """Measure, and print; without names all designs, and the page anew."""
    for name in names:
        if name not in {design.name for design in DESIGNS}:
            raise SystemExit(f"bench: there is no design {name!r}")
    rows = []
    for row in measured(names):
        rows.append(row)
        design, in_flight, found = row
        print(f"{design.name}, {in_flight} in flight", flush=True)
        for one in found:
            print(f"  {line(one)}", flush=True)
            for fault in one.faults[:3] if one.rule.startswith("clew") else ():
                print(f"      {fault}")
    if not names:
        page.write(rows)
        print(f"wrote {page.PAGE}")


def measured(names: Sequence[str]) -> Iterator[page.Row]:
    """Each design (those named, or all) at each level."""
    for design in DESIGNS:
        for in_flight in IN_FLIGHT:
            if not names or design.name in names:
                requests = max(LEAST, 2 * in_flight * design.each)
                yield design, in_flight, measure(design, in_flight, requests)


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
