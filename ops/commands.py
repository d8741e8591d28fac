"""The commands: Invoke's namespace, flags, help and exit codes.

Knows: Invoke (its one door), how a task ends. Must not know: rules, processes.

Everything heavy is imported inside the functions: `inv --list` must stay as fast as Invoke itself.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.program import Program
from invoke.tasks import task as _invoke_task

from ops.errors import OpsError, UsageError
from ops.face import given

Body = Callable[..., None]

_HELP = {
    "only": "act on this service alone (repeatable; commas allowed)",
    "check": "say what would change, touch nothing (inv --dry means the same)",
    "json": "print one JSON document on standard output, all else on standard error",
    "timeout": "give up after this many seconds",
    "watch": "look again every so many seconds, until Ctrl-C",
    "refresh-env": "take PATH, HOME, LANG, TZ, TMPDIR and the program anew from this shell",
    "system": "for the whole machine, which only root may do: with sudo, for whoever typed it",
    "force": "also a port that is in no inventory",
    "since": "how far back: 90 (seconds), 30s, 15m, 24h or 7d",
    "lines": "how many of the last lines to begin with",
    "no-follow": "print the last lines and end",
    "name": "which service; the word NAME says the same",
    "port": "which port; the word PORT says the same",
}

_WITH_POSITIONAL = ("restart-one", "kill-port", "hold", "release", "tail")


def _task(*positional: str) -> Callable[[Body], Any]:
    """An Invoke task as all of ours are: no automatic one-letter flags, help for every flag, `only` repeatable."""

    def wrap(body: Body) -> Any:
        words = body.__code__.co_varnames[1 : body.__code__.co_argcount]
        texts = {word: _HELP[word.replace("_", "-")] for word in words if word.replace("_", "-") in _HELP}
        return _invoke_task(
            body,
            positional=list(positional),
            iterable=["only"] if "only" in words else [],
            auto_shortflags=False,
            help=texts,
        )

    return wrap


@_task()
def start(
    c: Context, only: Any = None, check: bool = False, json: bool = False, timeout: str = "", refresh_env: bool = False
) -> None:
    """Bring every service up and healthy, in order of what they need."""
    _change(c, "start", only, check, json, timeout, {"refresh_env": refresh_env}, show_health=True)


@_task()
def stop(c: Context, only: Any = None, check: bool = False, json: bool = False, timeout: str = "") -> None:
    """Bring services down, to stay down: whole process trees gone, ports free."""
    _change(c, "stop", only, check, json, timeout)


@_task()
def restart(
    c: Context, only: Any = None, check: bool = False, json: bool = False, timeout: str = "", refresh_env: bool = False
) -> None:
    """Restart all, one at a time in order, each healthy before the next."""
    _change(c, "restart", only, check, json, timeout, {"refresh_env": refresh_env})


@_task("name")
def restart_one(
    c: Context, name: str, check: bool = False, json: bool = False, timeout: str = "", refresh_env: bool = False
) -> None:
    """Restart one service, gracefully.

    inv restart-one NAME
    """
    _positional("restart-one", name)
    _change(c, "restart-one", [name], check, json, timeout, {"refresh_env": refresh_env})


@_task("port")
def kill_port(
    c: Context, port: str, force: bool = False, check: bool = False, json: bool = False, timeout: str = ""
) -> None:
    """End whoever listens on a port; its clients are left alone.

    inv kill-port PORT
    """
    _positional("kill-port", port)
    _change(c, "kill-port", None, check, json, timeout, {"port": port, "force": force})


@_task()
def reset(c: Context, only: Any = None, check: bool = False, json: bool = False, timeout: str = "") -> None:
    """Emergency: all down, ports freed, stale files cleared, all up again, verified."""
    _change(c, "reset", only, check, json, timeout, show_health=True)


@_task("name")
def hold(c: Context, name: str, check: bool = False, json: bool = False, timeout: str = "") -> None:
    """Have the monitor leave a service alone, while it goes on watching it.

    inv hold NAME
    """
    _positional("hold", name)
    _change(c, "hold", [name], check, json, timeout)


@_task("name")
def release(c: Context, name: str, check: bool = False, json: bool = False, timeout: str = "") -> None:
    """Give a held service back to the monitor.

    inv release NAME
    """
    _positional("release", name)
    _change(c, "release", [name], check, json, timeout)


@_task()
def status(c: Context, only: Any = None, json: bool = False, watch: str = "") -> None:
    """What runs, from records and the process table alone: instant, nobody is asked."""
    _report("status", only, json, watch)


@_task()
def health(c: Context, only: Any = None, json: bool = False, watch: str = "", timeout: str = "") -> None:
    """Ask every service everything, side by side; exit code 2 when something is not well."""
    _report("health", only, json, watch, timeout)


@_task("name")
def tail(c: Context, name: str, lines: str = "10", no_follow: bool = False, json: bool = False) -> None:
    """Follow logs: a service, `monitor`, `alerts`, or `all` merged.

    inv tail NAME
    """
    _positional("tail", name)

    def body() -> int:
        from ops.face import reading

        return reading.tail(name, given.whole(lines, "--lines", 0, 1_000_000), not no_follow, json)

    _ended("tail", json, body)


@_task()
def alerts(c: Context, lines: str = "20", json: bool = False) -> None:
    """What went wrong, newest last."""

    def body() -> int:
        from ops.face import reading

        return reading.alerts(given.whole(lines, "--lines", 1, 1_000_000), json)

    _ended("alerts", json, body)


@_task()
def report(c: Context, only: Any = None, since: str = "24h", json: bool = False) -> None:
    """Uptime, recovery times, restarts, response times, CPU and memory, per service, over a window."""

    def body() -> int:
        from ops.face import reading
        from ops.operations.verbs import Request

        window = {"since": given.span(since, "--since")}
        return reading.kpis(Request("report", given.names(only), options=window), json)

    _ended("report", json, body)


@_task()
def monitor(c: Context, json: bool = False) -> None:
    """Watch and bring back what dies, in this terminal, until Ctrl-C."""

    def body() -> int:
        from ops.face import watching

        return watching.monitor(json)

    _ended("monitor", json, body)


@_task()
def monitor_start(c: Context, check: bool = False, json: bool = False, timeout: str = "") -> None:
    """Watch and bring back what dies, in the background."""
    _change(c, "monitor-start", None, check, json, timeout)


@_task()
def monitor_stop(c: Context, check: bool = False, json: bool = False, timeout: str = "") -> None:
    """Stop watching; services run on."""
    _change(c, "monitor-stop", None, check, json, timeout)


@_task()
def install_service(
    c: Context, system: bool = False, check: bool = False, json: bool = False, timeout: str = ""
) -> None:
    """Start the monitor at boot, or login, and have it watched: by launchd or systemd."""
    _change(c, "install-service", None, check, json, timeout, {"system": system})


@_task()
def uninstall_service(
    c: Context, system: bool = False, check: bool = False, json: bool = False, timeout: str = ""
) -> None:
    """Start nothing at boot any more; services run on."""
    _change(c, "uninstall-service", None, check, json, timeout, {"system": system})


@_task()
def check_inventory(c: Context, json: bool = False) -> None:
    """Validate the inventory and show each service's worst-case recovery time."""

    def body() -> int:
        from ops.face import checking

        return checking.check_inventory(json)

    _ended("check-inventory", json, body)


def namespace(tasks_file: str = "") -> Collection:
    """All commands as Invoke's collection, for tasks.py and for the console script.

    A tasks.py that names itself (`__file__`) has the inventory beside it used wherever `inv -r FOLDER` is typed, and
    no other when that is missing."""
    if tasks_file:
        beside = os.path.join(os.path.dirname(os.path.abspath(tasks_file)), "inventory.yaml")
        os.environ.setdefault("OPS_INVENTORY", beside)
        if "invoke.main" in sys.modules:  # `inv` itself is reading that tasks.py
            _explain_mistakes(sys.modules["invoke.main"].program)
    made = Collection()
    for one in (
        start,
        stop,
        restart,
        restart_one,
        kill_port,
        reset,
        status,
        health,
        hold,
        release,
        tail,
        alerts,
        monitor,
        monitor_start,
        monitor_stop,
        install_service,
        uninstall_service,
        report,
        check_inventory,
    ):
        made.add_task(one)
    return made


def main() -> None:
    """The console script `ops`: the same commands from anywhere."""
    from invoke.config import Config

    from ops import __version__

    class OpsConfig(Config):
        @staticmethod
        def global_defaults() -> dict[str, Any]:
            defaults: dict[str, Any] = Config.global_defaults()
            defaults["tasks"]["dedupe"] = False  # `ops health restart health` means it
            return defaults

    program = Program(version=__version__, namespace=namespace(), name="ops", binary="ops", config_class=OpsConfig)
    _explain_mistakes(program)
    program.run()


def _explain_mistakes(program: Any) -> None:
    """Has Invoke's own words about a line that makes no sense replaced by what was meant and what to type. What
    Invoke accepts is not looked at."""

    def explained(step: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                step()
            except ParseError as error:
                from ops.face import mistakes

                _open_streams()
                known = {name: sorted(context.flags) for name, context in program.parser.contexts.items()}
                task, told = mistakes.explain(str(error), sys.argv[1:], known)
                raise Exit(code=_told(task, "--json" in sys.argv, told.lines(), told.exit_code)) from None

        return run

    for name in ("parse_tasks", "parse_cleanup"):
        setattr(program, name, explained(getattr(program, name)))


# -- how a task runs and ends ----------------------------------------------------------------------------------


def _change(
    c: Context,
    task: str,
    only: Iterable[str] | None,
    check: bool,
    json: bool,
    timeout: str,
    options: dict[str, Any] | None = None,
    *,
    show_health: bool = False,
) -> None:
    def body() -> int:
        from ops.face import changing
        from ops.operations.verbs import Request

        chosen = dict(options or {})
        if "port" in chosen:
            chosen["port"] = given.whole(chosen["port"], "port", 1, 65535)
        names = given.names(only) if task not in ("restart-one", "hold", "release") else tuple(only or ())
        request = Request(task, names, check or bool(c.config.run.dry), given.seconds(timeout, "--timeout"), chosen)
        return changing.change(request, json, show_health=show_health)

    _ended(task, json, body)


def _report(task: str, only: Any, json: bool, watch: str, timeout: str = "") -> None:
    def body() -> int:
        from ops.face import reading
        from ops.operations.verbs import Request

        request = Request(task, given.names(only), timeout=given.seconds(timeout, "--timeout"))
        return reading.report(request, json, given.seconds(watch, "--watch"))

    _ended(task, json, body)


def _positional(task: str, value: str) -> None:
    """Invoke hands a flag after a task name over as its positional argument: that must never run the task."""
    if value.startswith("-"):

        def refuse() -> int:
            raise UsageError(f"{task}: unknown flag {value!r}, or a name is missing", next=f"inv {task} --help")

        _ended(task, "--json" in sys.argv, refuse)


def _ended(task: str, json: bool, body: Callable[[], int]) -> None:
    """The one door through which a task ends: errors become messages and exit codes, never a traceback."""
    _open_streams()
    _help_instead()
    try:
        _refuse_misread_flags()
        code = body()
        sys.stdout.flush()
    except OpsError as error:
        code = _told(task, json, error.lines(), error.exit_code)
    except KeyboardInterrupt:
        code = _told(task, json, ["interrupted"], 130)
    except BrokenPipeError:
        code = _reader_gone()
    except OSError as error:
        code = _unwritable(task, error)
    if code:
        raise Exit(code=code)


def _told(task: str, json: bool, lines: Sequence[str], code: int) -> int:
    if code == 130:  # a second Ctrl-C must not break off the message, nor the exit code
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)
    from ops import render

    if json:
        print(render.error_document(task, "--check" in sys.argv, "\n".join(lines)), flush=True)
    for line in render.error_lines(lines):
        print(line, file=sys.stderr)
    return code


def _reader_gone() -> int:
    """`inv tail all | head -1`: whoever read has seen enough. Python must not complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _unwritable(task: str, error: OSError) -> int:
    """A report that could not be written, to a full disk say: told on standard error. Any other error goes on."""
    try:
        sys.stdout.flush()
    except OSError as lost:
        _reader_gone()
        return _told(task, False, [f"standard output cannot be written: {lost.strerror}"], 2)
    raise error


def _open_streams() -> None:
    """Started with closed standard streams (`inv start 2>&-`): what is opened next must not become one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):  # where they are not UTF-8, what cannot be written is shown as an escape
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")


def _refuse_misread_flags() -> None:
    """`inv stop restart-one --bogus`: Invoke would stop everything before it finds that --bogus is no service."""
    words = sys.argv[1:]
    flags = {f"--{name}" for name in (*_HELP, "name", "port", "dry", "debug", "echo", "pty", "hide")}
    for task, word in itertools.pairwise(words):
        if task in _WITH_POSITIONAL and word.startswith("-") and word.split("=")[0] not in flags:
            raise UsageError(f"{task}: unknown flag {word!r}, or a name is missing", next=f"inv {task} --help")


def _help_instead() -> None:
    """Invoke gives a flag after a task name to a positional argument that is still missing, and finds that out
    only when the tasks before it have run: `inv stop restart-one --help` must stop nothing."""
    words = sys.argv[1:]
    asked = [place for place, word in enumerate(words) if word in ("-h", "--help")]
    known = namespace().task_names if asked else ()
    before = [word for word in words[: asked[0]] if word in known] if asked else []
    if before:
        Program(namespace=namespace(), name="inv", binary="inv").run(["inv", "--help", before[-1]], exit=False)
        raise Exit(code=0)
