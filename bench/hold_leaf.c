// The least program: its first instruction is a store, so that a stop that came too late is seen in memory.
__asm__(".globl _start\n_start:\n"
        "movl $1, ran(%rip)\n"
        "xorl %edi, %edi\nmovl $60, %eax\nsyscall\n"
        ".data\n.globl ran\n.balign 4\nran: .long 0\n");
