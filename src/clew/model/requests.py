"""The requests that a server got, as ``clew show T --requests`` lists them."""

from __future__ import annotations

from dataclasses import dataclass

from clew.model.task import Party


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One request; ``origin`` is the ``--from`` that shows its flow.

    Times are nanoseconds: ``t_ns`` is when the server took it in, since the recording's root began;
    ``duration_ns`` from when it was sent (where that was not recorded: taken in) to the end of its answer,
    None if there was none.  ``client`` is None if it was not recorded: then ``far`` may have its address.
    ``server`` took it in, at ``socket``.  ``hops`` and ``tasks`` count its flow, ``tiers`` the hops of each.
    """

    n: int
    origin: str
    t_ns: int
    duration_ns: int | None
    client: Party | None
    far: str
    server: Party
    socket: str
    tasks: int
    hops: int
    tiers: dict[str, int]


@dataclass(frozen=True, slots=True)
class Requests:
    """All that ``server`` (as it was asked for) got, by when they came; ``notes`` are as of a flow."""

    server: str
    requests: tuple[ServedRequest, ...]
    lost: dict[str, int]
    notes: tuple[str, ...] = ()
