"""A tiny HTTP server for tests: starts in some 20 ms, answers every request with 200 and its pid.

    tiny.py PORT [flags]       run with python -S (no site): it needs only socket, os, sys, signal, time

Flags, in any order:
    --deaf            ignores SIGTERM
    --after=SECONDS   begins to listen only then
    --exit=CODE       ends at once with that code (before listening)
    --exit-after=S    ends with code 1 after S seconds
    --host=ADDRESS    listens there (default 127.0.0.1; ::1 for IPv6 only)
    --other-port=N    listens on N instead of PORT (a dev server that took the next free port)
    --daemon          puts itself in the background: forks, and the started process exits with 0
    --child=KIND      leaves a child, printed as "child PID": plain | setsid (own session) | holds (also holds the
                      listening socket) | bare (own session, environment cleared) | double (own session, forked twice:
                      nobody's child) | lost (double and bare, and holds the listening socket)
    --body=TEXT       what it answers
    --answer=MODE     hang (accepts, never answers) | 500 | half (every second request is answered with 500)
    --mode=FILE       FILE holds the MODE of each answer, as long as it is there; blip: 500 once, FILE is removed;
                      grow: takes 96 MiB, FILE is removed
    --print=TEXT      prints TEXT at the start (standard output)
    --reads-stdin     ends with code 0 when its standard input ends
    --blocked-slow=S  every answer takes S seconds (one at a time)

SIGUSR1 makes it answer 500 from then on: an illness that a restart heals. SIGUSR2 ends it with code 0.
"""

import os
import signal
import socket
import sys
import time

port = int(sys.argv[1])
flags = dict([*word[2:].split("=", 1), ""][:2] for word in sys.argv[2:])
HOLD = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]  # longer than any test, yet not for ever


def say(*words):
    try:
        os.write(1, (" ".join(map(str, words)) + "\n").encode())
    except OSError:  # the disk of the log is full: a service runs on
        pass


def child(kind, listener):
    first = os.fork()
    if first:
        if kind in ("double", "lost"):
            os.waitpid(first, 0)
        return
    if kind != "plain":
        os.setsid()
    if kind in ("double", "lost") and os.fork():
        os._exit(0)
    if kind in ("holds", "lost"):
        os.set_inheritable(listener.fileno(), True)
    say("child", os.getpid())
    os.execve(HOLD[0], HOLD, {} if kind in ("bare", "lost") else dict(os.environ))


def mode():
    try:
        with open(flags.get("mode") or "") as file:
            said = file.read()
    except OSError:
        return flags.get("answer")
    if said in ("blip", "grow"):
        os.unlink(flags["mode"])
    if said == "grow":
        keep.append(b"x" * (96 << 20))
    return said


def prepare():
    if "deaf" in flags:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: flags.update(answer="500"))
    signal.signal(signal.SIGUSR2, lambda *_: os._exit(0))
    if "print" in flags:
        say(flags["print"])
    if "exit" in flags:
        sys.exit(int(flags["exit"]))
    if "daemon" in flags and os.fork():
        os._exit(0)
    if "daemon" in flags:
        os.setsid()
    time.sleep(float(flags.get("after") or 0))


def listen():
    host = flags.get("host") or "127.0.0.1"
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(flags.get("other-port") or port)))
    listener.listen(128)
    say("listening", os.getpid())
    return listener


def misbehave(listener):
    if "child" in flags:
        child(flags["child"], listener)
    if "exit-after" in flags:
        signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
        signal.setitimer(signal.ITIMER_REAL, float(flags["exit-after"]))
    if "reads-stdin" in flags and not os.fork():
        listener.close()
        while os.read(0, 1024):
            pass
        os.kill(os.getppid(), signal.SIGKILL)
        os._exit(0)


def main():
    prepare()
    listener = listen()
    misbehave(listener)
    count = 0
    while True:
        connection, _ = listener.accept()
        count += 1
        answer = mode()
        if answer == "hang":
            keep.append(connection)
            continue
        try:
            connection.recv(65536)
            time.sleep(float(flags.get("blocked-slow") or 0))
            bad = answer in ("500", "blip") or (answer == "half" and count % 2)
            body = (flags.get("body") or str(os.getpid())).encode()
            head = b"HTTP/1.1 500 Bad\r\n" if bad else b"HTTP/1.1 200 OK\r\n"
            connection.sendall(head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        except OSError:
            pass
        connection.close()


keep = []
main()
