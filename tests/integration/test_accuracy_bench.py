"""The accuracy bench measures what it says: its servers' statements are found in the recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.accuracy.measure import Design, record
from bench.accuracy.rules import Judged, rules
from bench.accuracy.score import score
from bench.accuracy.truth import read_statements, truth_of
from clew.flow.follow import find
from clew.trace.reader import Trace


@pytest.mark.requires("root", "bpf", "compiler")
def test_what_servers_say_is_in_the_recording_and_followed(tmp_path: Path) -> None:
    trace, said = record(Design("thread_per_connection", ""), 4, 16, tmp_path)
    found = find(Trace(trace))
    truth = truth_of(read_statements(said), found)
    assert (truth.unseen, len(truth.effects)) == (0, 16)
    ours, strict, last_message, *_ = (
        score(judged, rule) for judged in [Judged(found, truth)] for rule in rules(judged)
    )
    for one in (ours, strict):
        assert (one.exact, one.wrong, one.ambiguous, one.lost) == (16, 0, 0, 0), one.faults
        assert one.told == one.right == one.true
    # A rule that knows of no births has nothing to say of the children.
    assert last_message.lost == 16
