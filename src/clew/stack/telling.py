"""Which frames of a backtrace say something, and what to call the work it was taken in.

Every stack ends in the C library's system call wrapper and begins in its thread start; a runtime or an
event loop fills much of the rest.  What a person looks for lies between.  Whole modules are left out where
nothing in them ever says more (libc), single functions by short lists of names elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from clew.model.frame import Backtrace, Frame

_SILENT_MODULES = re.compile(
    rb"(libc|libpthread|ld|libdl|librt|ld-linux[\w-]*|ld-musl-[\w-]+|libc\.musl-[\w-]+|linux-vdso)([-.]|$)"
    rb"|\[(vdso|vsyscall)\]"
)
_PYTHON_MODULE = re.compile(rb"(lib)?python\d")

# Functions that run what others wrote: runtimes' starts, evaluators, trampolines.  By prefix.
_SILENT_NAMES = re.compile(
    r"_start$|__libc_|__GI_|start_thread$|clone3?$|__clone|__restore_rt$"
    r"|g_main_(context|loop)|g_thread_|g_poll|g_cond_wait|g_closure_invoke|g_signal_emit|g_source_"
    r"|std::|core::|alloc::|__gnu_cxx::|<?(std|core|alloc)::|__rust_|execute_native_thread_routine"
    r"|runtime\.|syscall\.|internal/"
)
_SILENT_IN_PYTHON = re.compile(
    r"_?Py(Eval|Object|Function|Vectorcall|Run|_|Cell|Call|Method|CFunction|Type|Import|Thread|Frame)"
    r"|pymain_|run_mod|run_eval|method_vectorcall|cfunction_|slot_|type_call|vectorcall|object_vacall"
    r"|partial_|thread_run|pythread_wrapper|builtin_|function_code_fastcall|call_function|do_call|main$"
)
# In a static program libc's wrappers are in the program's own file: then, at the inner end, by name.
_WRAPPER_NAMES = """
    read write readv writev pread pwrite pread64 pwrite64 send sendto sendmsg sendmmsg splice tee sendfile
    recv recvfrom recvmsg recvmmsg poll ppoll select pselect epoll_wait epoll_pwait accept accept4 connect
    fork vfork clone clone3 Fork execve execveat fexecve execv execvp execvpe posix_spawn posix_spawnp spawni
    wait waitpid wait3 wait4 waitid kill tgkill raise sigwait sigsuspend pause exit Exit system popen
    futex syscall nanosleep clock_nanosleep sem_wait sem_post
    pthread_cond_wait pthread_cond_timedwait pthread_mutex_lock pthread_join
"""
_WRAPPERS = frozenset(_WRAPPER_NAMES.split())

# Words of a name (camel or snake case) that mark a loop or a thread's outermost function.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CARRIER_WORDS = frozenset({"main", "mainloop", "loop", "eventloop", "worker", "workers", "trampoline"})
_RUN_OF = frozenset({"daemon", "event", "events", "once", "forever", "default", "until", "queue", "poll"})
_THREAD_OF = frozenset({"helper", "start", "entry", "proc", "routine", "func", "wrapper", "run", "body"})


def telling(backtrace: Backtrace) -> Backtrace:
    """The frames that say something, innermost first.

    Frames without a name are left out if any named one says something; if nothing says anything, the
    innermost frame with a name is all there is (the innermost frame, if none has one).
    """
    loud = [frame for frame in _without_wrappers(backtrace) if not _is_silent(frame)]
    named = tuple(frame for frame in loud if frame.function)
    return named or tuple(loud[:1]) or _innermost_named(backtrace)


def label(backtrace: Backtrace) -> str:
    """A name for the work that was going on: the outermost telling function inside the task's own loop.

    For a worker of libvirt it is the API call it serves (``virDomainCreate``), for a handler under an event
    loop the handler.  ``main`` if the program has nothing else to say; ``module+0xoffset`` if nothing in
    it has a name; "" for an empty backtrace.
    """
    frames = telling(backtrace)
    if not frames:
        return ""
    work = next((frame for frame in reversed(frames) if not _is_carrier(frame.function)), frames[0])
    return work.function or place_of(work)


def label_of(backtraces: Iterable[Backtrace]) -> str:
    """The label that most backtraces of one activation have; of equally frequent ones the first."""
    labels = Counter(name for backtrace in backtraces if (name := label(backtrace)))
    return labels.most_common(1)[0][0] if labels else ""


def place_of(frame: Frame) -> str:
    """``module+0xoffset``, with the module's file name; ``0xaddress`` for code in no file."""
    module = _file_name(frame.module).decode("utf-8", "backslashreplace")
    return f"{module}+{frame.offset:#x}" if module else f"{frame.offset:#x}"


def _without_wrappers(backtrace: Backtrace) -> Backtrace:
    for index, frame in enumerate(backtrace):
        if not (frame.function.lstrip("_") in _WRAPPERS or _is_silent(frame)):
            return backtrace[index:]
    return ()


def _is_silent(frame: Frame) -> bool:
    module = _file_name(frame.module)
    if _SILENT_MODULES.match(module) or _SILENT_NAMES.match(frame.function):
        return True
    return bool(_PYTHON_MODULE.match(module) and _SILENT_IN_PYTHON.match(frame.function))


def _is_carrier(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    has = set(words)
    return bool(
        has & _CARRIER_WORDS
        or ("run" in has and has & _RUN_OF)
        or ("thread" in has and has & _THREAD_OF)
        or (words and words[-1] == "dispatch")
    )


def _innermost_named(backtrace: Backtrace) -> Backtrace:
    named = next((frame for frame in backtrace if frame.function), None)
    return (named,) if named else backtrace[:1]


def _file_name(module: bytes) -> bytes:
    return module.rpartition(b"/")[2]
