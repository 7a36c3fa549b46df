"""The ``bpf`` engine: probes in the kernel, for root or CAP_BPF and CAP_PERFMON."""
