"""Starting gdb or lldb on held tasks and on saved hops, and what runs inside gdb."""
