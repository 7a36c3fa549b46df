"""The zoo of the soak: programs that live in different ways, and the rules that suit each."""

from __future__ import annotations

import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

STATUS = 5
"""What every one of them exits with, when its standard input ends."""


@dataclass(frozen=True, slots=True)
class Animal:
    """A program: it works from its first line of input on.  ``signal`` is one that it has a handler for."""

    program: Path
    rules: list[str]
    signal: int = signal.SIGUSR1


_HEAD = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static volatile int handled;
static void on_signal(int number) { (void)number; handled++; }
__attribute__((noipa)) int clew_soak_work(int number) { __asm__ volatile("nop; nop"); return number + 1; }
static void nap(void) { struct timespec t = {0, 1000000}; nanosleep(&t, NULL); }
static volatile int over;
static void *listen_for_end(void *unused) {
    char line[64];
    ssize_t got;
    while ((got = read(0, line, sizeof(line))) > 0 || (got < 0 && errno == EINTR)) {}
    over = 1;
    return unused;
}
static void begin(void) {
    pthread_t thread;
    char line[3];
    for (int got = 0; got < 3;) {
        ssize_t n = read(0, line + got, 3 - got);
        if (n == 0) exit(5);
        if (n > 0) got += n;
    }
    pthread_create(&thread, NULL, listen_for_end, NULL);
}
static void handle(int number) {
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(number, &a, NULL);
}
"""

_BODIES = {
    "plain": "while (!over) { clew_soak_work(1); nap(); }",
    "threads": """
    for (int i = 0; i < 3; i++) { pthread_t t; pthread_create(&t, NULL, work_on, NULL); }
    while (!over) nap();""",
    "tight": "while (!over) clew_soak_work(1);",
    "timer": """
    struct itimerval every = {{0, 2000}, {0, 2000}};
    handle(SIGALRM);
    setitimer(ITIMER_REAL, &every, NULL);
    while (!over) { clew_soak_work(1); nap(); }
    memset(&every, 0, sizeof(every));
    setitimer(ITIMER_REAL, &every, NULL);""",
    "forks": """
    while (!over) {
        pid_t child = fork();
        if (!child) { clew_soak_work(2); _exit(3); }
        int status;
        while (waitpid(child, &status, 0) < 0) {}
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 3) return 9;
        clew_soak_work(1);
        nap();
    }""",
    "vforks": """
    while (!over) {
        pid_t child = vfork();
        if (!child) { execl("/bin/true", "true", (char *)0); _exit(4); }
        int status;
        while (waitpid(child, &status, 0) < 0) {}
        if (!WIFEXITED(status) || WEXITSTATUS(status)) return 9;
        clew_soak_work(1);
        nap();
    }""",
    "headless": """
    pthread_t t;
    pthread_create(&t, NULL, work_and_end, NULL);
    pthread_exit(NULL);""",
}
_MAIN = """
static void *work_on(void *unused) { while (!over) { clew_soak_work(1); nap(); } return unused; }
static void *work_and_end(void *unused) { work_on(unused); exit(5); }
int main(void) {
    handle(SIGUSR1);
    (void)work_and_end;
    begin();
    BODY
    return 5;
}
"""


def build(folder: Path) -> list[Animal]:
    """Compile them all into ``folder``: as PIE, some static, one with musl."""
    animals = []
    for name, body in _BODIES.items():
        source = folder / f"{name}.c"
        source.write_text(_HEAD + _MAIN.replace("BODY", body))
        ways = {"": ["cc"], "-static": ["cc", "-static"]}
        if shutil.which("musl-gcc") and name in ("plain", "threads"):
            ways["-musl"] = ["musl-gcc"]
        for way, compiler in ways.items():
            program = folder / f"clew-soak-{name}{way}"
            subprocess.run([*compiler, "-g", "-O1", "-w", "-pthread", source, "-o", program], check=True)
            animals.append(Animal(program, _rules(name, program)))
    return animals


def _rules(name: str, program: Path) -> list[str]:
    rules = [
        f"call:{program}!clew_soak_work",
        f"call:{program}!clew_soak_work,n=7,max=3",
        f"syscall:*nanosleep,comm={program.name[:15]}",
        f"signal:USR1,comm={program.name[:15]}",
    ]
    if name == "timer":
        rules.append(f"signal:ALRM,comm={program.name[:15]},max=5")
    if name in ("forks", "vforks"):
        rules += [f"fork:{program.name}", f"exec:true,lineage={program.name}"]
    return rules
