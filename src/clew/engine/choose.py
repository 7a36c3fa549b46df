"""Which engine records: the one asked for, or the best one that this machine permits."""

from __future__ import annotations

from clew.engine.engine import Engine, RecordRequest
from clew.errors import ClewError, EngineError, PermissionMissing, UsageError
from clew.kernel import features


def choose(name: str, request: RecordRequest) -> tuple[Engine, str]:
    """The engine called ``name``, loaded, and a sentence to tell if ``auto`` made do with less ("" if not).

    Raises PermissionMissing if what was asked for is not permitted, EngineError if it is not installed,
    PartRefused if the kernel does not take it.
    """
    if name == "ptrace" and request.queue:
        raise UsageError("The ptrace engine sees no functions.", "--queue needs --engine bpf, and root.")
    lack: ClewError | None = None
    if name != "ptrace":
        try:
            return _bpf(request), ""
        except (PermissionMissing, EngineError) as error:
            if name == "bpf" or request.queue:
                raise
            lack = error
    from clew.engine.ptrace.engine import PtraceEngine

    why = f"Recording with ptrace, which sees this command's own tree only. {lack.cause}" if lack else ""
    return PtraceEngine(), why


def _bpf(request: RecordRequest) -> Engine:
    lack = bpf_lack()
    if lack is not None:
        instead = f"{lack.remedy} Or use --engine ptrace, which needs no privilege.".lstrip()
        raise type(lack)(lack.cause, instead)
    from clew.engine.bpf.recorder import BpfEngine

    engine = BpfEngine()
    engine.load(request)
    return engine


def bpf_lack() -> PermissionMissing | EngineError | None:
    """Why no part of the bpf engine can run, if none can: as `clew doctor` finds it, without loading one."""
    check = features.bpf_lack()
    if check is not None:
        return PermissionMissing(f"The bpf engine lacks {check.name}: {check.detail}.", check.remedy)
    from clew.engine.bpf.libbpf import library
    from clew.engine.bpf.parts import unbuilt

    if unbuilt():
        return EngineError(
            "The bpf engine's probes are not built.", "In a checkout: ./x demo, or pip install -e ."
        )
    try:
        library()
    except EngineError as error:
        return error
    return None
