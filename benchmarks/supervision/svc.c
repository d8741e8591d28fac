/* svc - the one service that every supervisor is given.
 *
 * An HTTP/1.0 server that is ready about a millisecond after exec, so that what is measured is the supervisor and not
 * the service. It ends at once on TERM and INT.
 *
 *   GET /health       200 {"status":"healthy"}, with its pid in the header X-Pid
 *   GET /written      how many lines were written, the microseconds that the writer was held up at most between two
 *                     of them, and the milliseconds that it has been writing
 *   GET /quiet        the same, and no more lines are written
 *
 *   --port N          port on 127.0.0.1 (required)
 *   --tag TEXT        ignored: by it the harness knows its own processes again
 *   --spew            writes numbered lines to standard output, one write(2) each, at full speed, until told /quiet
 *   --daemonize       forks and leaves its session (for a supervisor that is no parent)
 *   --pidfile FILE    written once it listens
 *   --fork N          N children in its process group, each with a child of its own
 *   --setsid-child    a child in a session of its own
 *   --keep-port       the children hold the listening socket too, as forked workers do
 *   --ignore-term     TERM is ignored
 *   --log FILE        standard output and standard error go there
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stopping;
static atomic_int quiet;
static volatile long lines, longest, writing; /* the writer's; the last two in nanoseconds */

static int keep_port;

static void on_stop(int number) { (void)number; stopping = 1; }

static void die(const char *what) { perror(what); exit(1); }

static long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000L + at.tv_nsec;
}

/* A line is "L", eleven digits and a newline. The count is that of whole lines. */
static void *spew(void *unused) {
    (void)unused;
    char line[32];
    for (long first = now(), last = first, at; !quiet; last = at) {
        int length = sprintf(line, "L%011ld\n", lines);
        for (int done = 0; done < length;) {
            ssize_t written = write(1, line + done, length - done);
            if (written < 0 && errno != EINTR) return NULL;
            if (written > 0) done += written;
        }
        lines++;
        at = now();
        if (at - last > longest) longest = at - last;
        writing = at - first;
    }
    return NULL;
}

static void answer(int client, pthread_t *writer) {
    char in[2048], out[512], body[64] = "{\"status\":\"healthy\"}";
    const char *status = "200 OK";
    struct timeval limit = {1, 0};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ssize_t got;
    do got = recv(client, in, sizeof in - 1, 0);
    while (got < 0 && errno == EINTR); /* it was paused: with a timeout set that is told so, see signal(7) */
    if (got <= 0) return;
    in[got] = 0;
    if (writer && (!strncmp(in, "GET /quiet", 10) || !strncmp(in, "GET /written", 12))) {
        if (in[5] == 'q' && !quiet) {
            quiet = 1;
            pthread_join(*writer, NULL);
        }
        snprintf(body, sizeof body, "%ld %ld %ld", lines, longest / 1000, writing / 1000000);
    } else if (strncmp(in, "GET /health", 11))
        status = "404 Not Found";
    int length = snprintf(out, sizeof out,
                          "HTTP/1.0 %s\r\nContent-Type: application/json\r\nX-Pid: %d\r\n"
                          "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                          status, (int)getpid(), strlen(body), body);
    send(client, out, length, MSG_NOSIGNAL);
    shutdown(client, SHUT_WR);
}

/* A child with everyday signals, that is told nothing and lives for ten minutes at most. */
static void linger(int server) {
    if (!keep_port) close(server);
    signal(SIGTERM, SIG_DFL), signal(SIGINT, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    sleep(600);
    _exit(0);
}

static void spawn(int server, int children, int apart) {
    for (int i = 0; i < children; i++)
        if (!fork()) {
            fork();
            linger(server);
        }
    if (apart && !fork()) {
        setsid();
        linger(server);
    }
}

static int listening(int port) {
    int yes = 1, server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(server, (void *)&at, sizeof at) || listen(server, 1024)) die("svc: bind/listen");
    return server;
}

int main(int argc, char **argv) {
    int port = 0, daemonize = 0, spewing = 0, children = 0, apart = 0, deaf = 0;
    const char *pidfile = NULL, *log = NULL;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(word, "--port")) port = atoi(value), i++;
        else if (!strcmp(word, "--tag")) i++;
        else if (!strcmp(word, "--pidfile")) pidfile = value, i++;
        else if (!strcmp(word, "--log")) log = value, i++;
        else if (!strcmp(word, "--daemonize")) daemonize = 1;
        else if (!strcmp(word, "--spew")) spewing = 1;
        else if (!strcmp(word, "--fork")) children = atoi(value), i++;
        else if (!strcmp(word, "--setsid-child")) apart = 1;
        else if (!strcmp(word, "--keep-port")) keep_port = 1;
        else if (!strcmp(word, "--ignore-term")) deaf = 1;
        else return fprintf(stderr, "svc: unknown flag %s\n", word), 2;
    }
    if (!port) return fprintf(stderr, "svc: --port is required\n"), 2;
    if (daemonize) {
        if (fork()) _exit(0);
        setsid();
    }
    if (log) {
        int file = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (file < 0) die(log);
        dup2(file, 1), dup2(file, 2), close(file);
    }
    sigset_t blocked, none;
    sigemptyset(&none);
    sigemptyset(&blocked), sigaddset(&blocked, SIGTERM), sigaddset(&blocked, SIGINT);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    struct sigaction act = {.sa_handler = deaf ? SIG_IGN : on_stop};
    sigaction(SIGTERM, &act, NULL), sigaction(SIGINT, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    int server = listening(port);
    if (pidfile) {
        FILE *file = fopen(pidfile, "w");
        if (!file) die(pidfile);
        fprintf(file, "%d\n", (int)getpid()), fclose(file);
    }
    spawn(server, children, apart);
    pthread_t writer;
    if (spewing && pthread_create(&writer, NULL, spew, NULL)) die("svc: pthread_create");
    struct pollfd ready = {.fd = server, .events = POLLIN};
    while (!stopping) {
        if (ppoll(&ready, 1, NULL, &none) <= 0) continue;
        int client = accept4(server, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0) continue;
        answer(client, spewing ? &writer : NULL);
        close(client);
    }
    return 0;
}
