"""Which engine records: the one asked for, or the best one that this machine permits."""

from __future__ import annotations

from clew.engine.engine import Engine
from clew.errors import ClewError, EngineError, PermissionMissing
from clew.kernel import features


def choose(name: str) -> tuple[Engine, str]:
    """The engine called ``name``, and a sentence to tell if ``auto`` had to make do with less ("" if not).

    Raises PermissionMissing if what was asked for is not permitted, EngineError if it is not installed.
    """
    lack = None if name == "ptrace" else bpf_lack()
    if name == "bpf" and lack is not None:
        instead = f"{lack.remedy} Or use --engine ptrace, which needs no privilege.".lstrip()
        raise type(lack)(lack.cause, instead)
    if lack is None and name != "ptrace":
        from clew.engine.bpf.recorder import BpfEngine

        return BpfEngine(), ""
    from clew.engine.ptrace.engine import PtraceEngine

    if lack is None:
        return PtraceEngine(), ""
    return PtraceEngine(), f"Recording with ptrace, which sees this command's own tree only. {lack.cause}"


def bpf_lack() -> ClewError | None:
    """Why the bpf engine cannot run, if it cannot: as `clew doctor` finds it, but without loading a probe."""
    check = features.bpf_lack()
    if check is not None:
        return PermissionMissing(f"The bpf engine lacks {check.name}: {check.detail}.", check.remedy)
    from clew.engine.bpf.libbpf import library
    from clew.engine.bpf.recorder import PROBE

    if not PROBE.exists():
        return EngineError(
            "The bpf engine's probes are not built.", "In a checkout: ./x demo, or pip install -e ."
        )
    try:
        library()
    except EngineError as error:
        return error
    return None
