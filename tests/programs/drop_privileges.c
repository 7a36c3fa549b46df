// needs: root
// hops: spawn=1 exec=1 message=3 exit=1
/* What libvirt does before it executes a guest: the child shakes hands, gives up its capabilities and its
 * user, and executes.  The file is executed by descriptor: its path may be closed to the new user. */
#include "letters.h"
#include "tasks.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>

enum { READY = 13, GO = 14, DROPPED = 15, NOBODY = 65534 };

static void read_capabilities(struct __user_cap_data_struct held[2]) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    MUST(syscall(SYS_capget, &header, held) == 0);
}

static void drop_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    MUST(syscall(SYS_capset, &header, none) == 0);
}

static void testify_credentials(void) {
    char line[TESTIMONY_LINE] = "creds";
    struct __user_cap_data_struct held[2];
    read_capabilities(held);
    add_task(line, self());
    sprintf(line + strlen(line), "\t%d\t%d\t%08x%08x", geteuid(), getegid(), held[1].effective, held[0].effective);
    testify(line);
}

static void become_guest(int from_parent, int to_parent, int image) {
    char *argv[] = {(char *)"guest", (char *)"dropped", NULL};
    send_letter(to_parent, READY);
    take_letter(from_parent, "pipe", GO);
    MUST(setgroups(0, NULL) == 0);
    MUST(setresgid(NOBODY, NOBODY, NOBODY) == 0);
    MUST(prctl(PR_SET_KEEPCAPS, 1) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    drop_capabilities();
    testify_credentials();
    send_letter(to_parent, DROPPED);
    setenv("CLEW_EXEC_FROM", "0", 1);
    fexecve(image, argv, environ);
    MUST(!"fexecve returned");
}

int main(int argc, char **argv) {
    int down[2], up[2], image = open(own_path(), O_RDONLY | O_CLOEXEC);
    if (argc > 1)
        return strcmp(argv[1], "dropped") != 0 || geteuid() != NOBODY || setuid(0) == 0;
    MUST(image >= 0 && pipe(down) == 0 && pipe(up) == 0);
    testify_credentials();
    pid_t child = fork_told();
    if (child == 0)
        become_guest(down[0], up[1], image);
    take_letter(up[0], "pipe", READY);
    send_letter(down[1], GO);
    take_letter(up[0], "pipe", DROPPED);
    reap_well(child);
    return 0;
}
