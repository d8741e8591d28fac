/* reap - runs a command and reaps every orphan below it at once.
 *
 *     reap COMMAND [ARGUMENT...]
 *
 * Daemons outlive the process that started them and are handed to init. An init that reaps on a timer (in some
 * containers and micro-VMs, up to 2 s later) leaves zombies, which a tool that waits for a pid to vanish takes for
 * living processes. Under `reap`, as under a proper init, there are none. INT and TERM are left to the command.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child;

static void pass_on(int number) {
    if (child > 0) kill(child, number);
}

int main(int argc, char **argv) {
    if (argc < 2) return fprintf(stderr, "usage: reap COMMAND [ARGUMENT...]\n"), 2;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    child = fork();
    if (child < 0) return perror("fork"), 1;
    if (!child) {
        execvp(argv[1], argv + 1);
        perror(argv[1]);
        _exit(127);
    }
    signal(SIGINT, SIG_IGN); /* a terminal sends it to the command as well */
    signal(SIGTERM, pass_on);
    for (;;) {
        int status;
        pid_t pid = wait(&status);
        if (pid < 0 && errno != EINTR) return 1;
        if (pid == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}
