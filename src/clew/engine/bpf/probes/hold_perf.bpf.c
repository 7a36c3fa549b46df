// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/* hold.bpf.c for kernels where raw tracepoints can be preempted (events.bpf.h). */
#define CLEW_PERF
#include "hold.bpf.c"
