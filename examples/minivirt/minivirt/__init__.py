"""A small libvirt: one request's way from a shell, through a daemon, to the exec of an emulator."""
