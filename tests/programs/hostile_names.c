// hops: spawn=2 exec=1 message=2 exit=1
/* Names made to break a terminal, a table, markup or a parser: escape sequences, newlines, tabs, a right-to-
 * left override, bytes that are not UTF-8, HTML, console markup, quotes, and a ')' for readers of stat. */
#include "letters.h"
#include "tasks.h"
#include "unix_sockets.h"

#include <sys/prctl.h>

static char *hostile_argv[] = {
    (char *)"\033]0;pwned\007guest\n",       (char *)"\033[2J\033[31mred",   (char *)"tab\there\r\nline",
    (char *)"\xe2\x80\xaereversed",          (char *)"\xff\xfe not utf-8",   (char *)"[bold red]x[/bold red]",
    (char *)"</script><script>alert(1)//",   (char *)"\"quoted'\\x41%s%n$(id)`id`",
    (char *)"a) R 1 2 3 (b",                 (char *)"",                     NULL};

static void be_called(const char *name) {
    char line[TESTIMONY_LINE] = "name";
    MUST(prctl(PR_SET_NAME, name) == 0);
    add_task(line, self());
    add_field(line, name);
    testify(line);
}

static void testify_arguments(char **argv) {
    char line[TESTIMONY_LINE] = "argv";
    sprintf(line + strlen(line), "\t%d", getpid());
    for (; *argv; argv++)
        add_field(line, *argv);
    testify(line);
}

static void *send_as_thread(void *name) {
    int server = connected_socket(SOCK_STREAM, (const char *)name);
    be_called("\033[7m<b>&\n) S 9");
    send_letter(server, 31);
    return NULL;
}


int main(int argc, char **argv) {
    char name[64];
    if (argc > 1) {
        testify_arguments(argv);
        be_called("\xff\t[red]\"'`;--");
        send_letter(3, 29);
        return 0;
    }
    snprintf(name, sizeof name, "@\033[31m\n<%d>\xff", getpid());
    int listener = listening_socket(SOCK_STREAM, name), ends[2];
    be_called("\033[5mmain)\n");
    pthread_t thread = thread_told(send_as_thread, name);
    int client = accept(listener, NULL, NULL);
    MUST(client >= 0);
    take_letter(client, "unix", 31);
    MUST(pthread_join(thread, NULL) == 0 && pipe(ends) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        MUST(dup2(ends[1], 3) == 3);
        exec_self_told(hostile_argv);
    }
    take_letter(ends[0], "pipe", 29);
    reap_well(child);
    return 0;
}
