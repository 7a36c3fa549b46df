// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/* record.bpf.c for kernels that lack a function it calls. */
#define CLEW_PLAIN
#include "record.bpf.c"
