// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/* The recorder's probes.  They report facts and interpret nothing. */
#include "tasks.bpf.h"
#include "queue.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
