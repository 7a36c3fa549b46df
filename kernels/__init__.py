"""``./x kernels``: clew on the kernels that distributions ship, each booted in a virtual machine."""
