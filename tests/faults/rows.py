"""The matrix as data: what can go wrong, how a test makes it happen, and what must hold nevertheless.

A row has exactly one test, or a reason why nothing here can run it (`not_here`); `limits` says how far a test reaches
where it cannot reach all the way. test_rows.py holds that.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One row."""

    number: int
    name: str
    injected: str
    holds: str
    limits: str = ""  # what the test stands in for, or leaves out
    not_here: str = ""  # why there is no test

    def __str__(self) -> str:
        return f"F{self.number}"


ROWS = (
    Fault(1, "crash", "SIGKILL to the service", "it serves again, at most 0.1 s later than a bare start takes"),
    Fault(
        2,
        "crash loop",
        "the program exits with 1 at once, for ever",
        "growing, capped delays; the CPU stays idle; one alert; a critical service is still tried, any other is "
        "`gave-up` and taken back when well",
    ),
    Fault(
        3, "slow crash loop", "dies some time after each start, well in between", "found to be flapping all the same"
    ),
    Fault(4, "clean exit", "the service exits with 0", "restarted like any death"),
    Fault(5, "hang", "SIGSTOP to the service", "noticed, ended although TERM stays pending, serving again"),
    Fault(
        6,
        "half-hang",
        "accepts connections, never answers",
        "the probe's timeout counts; probes never pile up; serving again",
    ),
    Fault(
        7,
        "wrong answer",
        "200 with a status that is not healthy; 200 with another program's page",
        "the check of the body or the JSON fails it; serving again",
    ),
    Fault(
        8, "slow start", "listens only after a long while", "not killed before its deadline; up at its first success"
    ),
    Fault(9, "blip", "one failed answer, then good ones", "no restart"),
    Fault(
        10,
        "ignores SIGTERM",
        "the signal is set to ignored",
        "KILL within the stated time; the command returns only when all is gone",
    ),
    Fault(
        11,
        "grandchildren",
        "`sh -c 'server; true'`; `npm run dev` and `npx`",
        "a stop leaves nobody, and the port is free",
    ),
    Fault(
        12,
        "escaped children",
        "children in sessions of their own, forked twice, with a cleared environment",
        "found by port, session or run marker, and ended with the service",
    ),
    Fault(
        13,
        "monitor killed",
        "SIGKILL to the monitor",
        "services serve on; the next monitor adopts the same processes; `health` is content",
    ),
    Fault(
        14,
        "monitor without memory",
        "an address-space limit below what the monitor has",
        "whether it ends of it or not, services serve on, and every state file stays whole",
        limits="no memory controller: the kernel's own OOM killer is not provoked",
    ),
    Fault(
        15,
        "monitor hangs",
        "SIGSTOP to the monitor",
        "its guard ends and replaces it; services keep their processes",
        limits="the guard; the watchdog of systemd is tested in tests/test_boot_systemd.py, launchd has none",
    ),
    Fault(
        16, "upgrade of the monitor", "monitor-stop, monitor-start; start with another version", "no service restarts"
    ),
    Fault(
        17,
        "pid reused",
        "a record that names a living stranger's pid",
        "the stranger is never signalled; the service counts as dead and is started",
        limits="forged: the record is written by the test; the kernel's counter of pids is not driven round",
    ),
    Fault(
        18,
        "record of another boot",
        "a record with an old boot id",
        "counts as dead; what was wanted still counts",
        limits="forged: the record is written by the test; the machine does not boot",
    ),
    Fault(19, "locks and sockets left behind", "lock, pid and bell files of the dead", "start works"),
    Fault(20, "twenty starts at once", "20 parallel `inv start`", "exactly one copy of each service"),
    Fault(
        21,
        "start against stop against restart",
        "commands drawn at random, three at a time, while services are killed",
        "the last intent wins; never two copies",
    ),
    Fault(
        22,
        "port taken before the start",
        "a foreign listener on the port",
        "refused fast, its owner named, no crash loop; heals when the port is free",
    ),
    Fault(
        23,
        "port stolen while down",
        "a foreign listener that answers with 200",
        "not taken for healthy: the listener must be ours; heals when the port is free",
    ),
    Fault(
        24,
        "port kept by an inherited descriptor",
        "a child holds the listening socket of a dead service",
        "one with our marker is ended, any other is found and named",
    ),
    Fault(25, "TIME_WAIT", "restarts and crashes under load", "no start fails because the address is in use"),
    Fault(
        26,
        "the program takes another port",
        "listens beside the declared port",
        "a failure that names the port",
        limits="the monitor finds it by probes that ask the port; where none does, only `start` and `health` find it",
    ),
    Fault(
        27,
        "one address family",
        "listens on ::1 only; a stranger on the other family",
        "probes and the check for conflicts see both",
    ),
    Fault(28, "kill-port with clients attached", "clients connected to the port", "the clients are not touched"),
    Fault(
        29,
        "the port's owner is another user",
        "root's listener, the command run by a user without rights",
        "refused and explained, with exit code 2",
        limits="a listener of root stands for Docker's proxy",
    ),
    Fault(
        30,
        "the disk of the logs is full",
        "a tiny tmpfs",
        "services run on; lost is only what found no room, each line of it counted by its writer; recovers",
    ),
    Fault(
        31,
        "flood of log lines",
        "as many lines a second as a program can write",
        "the service is not blocked, memory stays flat, rotation is exact",
    ),
    Fault(
        32,
        "rotation during writes",
        "a log rotated a thousand times while it is written",
        "no line lost, none twice",
        limits="the toolkit's own rotation is called again and again: its monitor rotates at most once a second",
    ),
    Fault(
        33,
        "log file deleted",
        "the public path removed; the real file removed",
        "the public path is put back; a deleted real file is reported until the restart",
    ),
    Fault(34, "broken pipe", "the reader of a log dies", "no service gets SIGPIPE"),
    Fault(
        35,
        "leaks",
        "a great many restarts",
        "descriptors, threads and memory of monitor and guard stay flat: at most 1 MiB more over the second half",
        limits="2000 restarts, so that the run stays short",
    ),
    Fault(
        36,
        "clock jumps",
        "the wall clock a day forward and back",
        "no restart, no backoff that is missed",
        limits="libfaketime moves the monitor's clock, not the machine's",
    ),
    Fault(
        37,
        "sleep and wake",
        "SIGSTOP to services, monitor and guard for longer than silence may last, then SIGCONT",
        "nobody is ended by the first looks after waking",
        limits="the machine itself does not sleep: all processes of the stack do",
    ),
    Fault(
        38,
        "environment at boot",
        "empty environment, another HOME, no path to the program",
        "starts as it did at first, or names the missing program",
    ),
    Fault(39, "no input, no terminal", "input from /dev/null; a terminal that is closed", "the service lives on"),
    Fault(
        40,
        "launchd restarts the job",
        "bootout and bootstrap, twenty times",
        "loaded with a living pid each time",
        limits="against the model of launchctl in tests/fakes/launchctl.py; there is no launchd on Linux",
    ),
    Fault(
        41,
        "logout",
        "the SSH session that started them is cut, and its terminal with it",
        "services live on",
        limits="without logind, which may end what a user leaves behind: tests/test_hosts_machines.py has that",
    ),
    Fault(
        42,
        "the connection breaks off",
        "an SSH connection dropped in the middle of a remote start",
        "finished or rolled back; running it again changes nothing",
    ),
    Fault(
        43,
        "one host of fifty does not answer",
        "its packets are dropped",
        "the other 49 are served as ever, and it costs no more than the time to connect",
        limits="fifty sshd on one machine; a full backlog that drops connections stands for the firewall",
    ),
    Fault(44, "zombie", "a parent that does not wait", "counts as dead, and is replaced"),
    Fault(
        45,
        "resources exhausted",
        "no more processes, no more descriptors for the monitor, no more memory for what it starts",
        "tried again with growing delays up to `retry_max`; the monitor does not crash",
        limits="a monitor that has no memory itself is F14",
    ),
    Fault(
        46,
        "inventory broken while running",
        "a bad edit",
        "the last good one stays in force; line and column are told",
    ),
    Fault(47, "one service edited", "an edit of one service", "only that one restarts"),
    Fault(48, "state files damaged", "truncated, overwritten, emptied", "rebuilt from processes and ports"),
    Fault(49, "a need restarts", "SIGKILL to what others need", "dependents follow the rule that is declared"),
    Fault(
        50,
        "all die at once",
        "SIGKILL to all five",
        "the critical ones first, the others once those are up or a quarter of a second later, one alert",
    ),
    Fault(51, "the checker fails", "the probe's own program is broken", "the service does not count as down"),
    Fault(
        52,
        "cannot be ended",
        "the D state: the service waits for a file system (FUSE) that does not answer",
        "reported, and nothing is started beside it",
    ),
)


if __name__ == "__main__":  # what there is, for `inv dev.faults --row`
    print("\n".join(f"{fault} {fault.name}" for fault in ROWS))
