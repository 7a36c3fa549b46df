"""Which engine records: the one asked for, or the best one that this machine permits."""

from __future__ import annotations

from clew.engine.engine import Engine
from clew.errors import EngineError, PermissionMissing
from clew.kernel import features

ENGINES = ("auto", "bpf", "ptrace")


def choose(name: str) -> tuple[Engine, str]:
    """The engine called ``name``, and a sentence to tell if ``auto`` had to make do with less ("" if not).

    Raises PermissionMissing if what was asked for is not permitted.
    """
    lack = next((check for check in (features.btf(), features.bpf_call()) if not check.ok), None)
    if name == "bpf" and lack is not None:
        raise PermissionMissing(
            f"The bpf engine cannot run here: {lack.detail}.",
            f"{lack.remedy} Or use --engine ptrace, which needs no privilege.",
        )
    if name == "bpf" or (name == "auto" and lack is None):
        from clew.engine.bpf.recorder import BpfEngine

        return BpfEngine(), ""
    try:
        from clew.engine.ptrace import PtraceEngine
    except ImportError as error:
        raise EngineError("The ptrace engine is missing from this installation.", "Install clew again.") from error
    why = "" if lack is None else f"Recording with ptrace: it sees this command's own tree only ({lack.detail})."
    return PtraceEngine(), why if name == "auto" else ""
