// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/* hold.bpf.c for kernels that lack a function it calls. */
#define CLEW_PLAIN
#include "hold.bpf.c"
