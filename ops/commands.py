"""The commands: Invoke's namespace, flags, help and exit codes.

Knows: Invoke (its one door), which flags a command has. Must not know: rules, processes.

Everything heavy is imported inside the functions: `inv --list` must stay as fast as Invoke itself.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.program import Program
from invoke.tasks import Task
from invoke.tasks import task as _invoke_task

from ops.errors import UsageError
from ops.face import given
from ops.face.ending import ended, open_streams, told

Flags = SimpleNamespace  # what was given with the flags of a task, by their names

# By flag: what it is when it is not given, and its help.
_FLAGS: dict[str, tuple[Any, str]] = {
    "only": (None, "act on this service alone (repeatable; commas allowed)"),
    "limit": ("", "on these hosts: a pattern as Ansible has it, such as web, h1,h2, 'web:!h3', @file, all"),
    "check": (False, "say what would change, touch nothing (inv --dry means the same)"),
    "json": (False, "print one JSON document on standard output, all else on standard error"),
    "timeout": ("", "give up after this many seconds"),
    "serial": ("", "so many hosts at a time, each well before the next: 2, 25% or 1,25%"),
    "forks": ("", "at most so many hosts at once (20)"),
    "max_fail_percentage": ("", "go on with the next batch while no more than so many percent of one have failed"),
    "watch": ("", "look again every so many seconds, until Ctrl-C"),
    "refresh_env": (False, "take PATH, HOME, LANG, TZ, TMPDIR and the program anew from this shell"),
    "system": (False, "for the whole machine, which only root may do: with sudo, for whoever typed it"),
    "force": (False, "also a port that is in no inventory"),
    "since": ("24h", "how far back: 90 (seconds), 30s, 15m, 24h or 7d"),
    "lines": ("", "how many of the last lines to begin with"),
    "no_follow": (False, "print the last lines and end"),
    "name": (inspect.Parameter.empty, "which service; the word NAME says the same"),
    "port": (inspect.Parameter.empty, "which port; the word PORT says the same"),
}
_LOOKING = ("only", "limit", "forks", "json")
_CHANGING = ("limit", "check", "json", "timeout", "serial", "forks", "max_fail_percentage")
_WITH_POSITIONAL = ("restart-one", "kill-port", "hold", "release", "tail")


class _Command(Task):  # type: ignore[type-arg]
    """A task that costs nothing to copy: Invoke copies all tasks to the bottom for each command (1.5 ms of ours)."""

    def __deepcopy__(self, _memo: dict[int, Any]) -> _Command:
        return self


def _task(*flags: str) -> Callable[[Callable[[Context, Flags], None]], Any]:
    """An Invoke task with these flags, as all of ours are: no automatic one-letter flags, help for each."""

    def wrap(body: Callable[[Context, Flags], None]) -> Any:
        @functools.wraps(body)
        def run(c: Context, **values: Any) -> None:
            body(c, Flags(**values))

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        words = [inspect.Parameter(name, kind, default=_FLAGS[name][0]) for name in flags]
        run.__signature__ = inspect.Signature([inspect.Parameter("c", kind), *words])  # type: ignore[attr-defined]
        return _invoke_task(
            run,
            klass=_Command,
            positional=[name for name in flags if name in ("name", "port")],
            iterable=["only"] if "only" in flags else [],
            auto_shortflags=False,
            help={name: _FLAGS[name][1] for name in flags},
        )

    return wrap


@_task("only", *_CHANGING, "refresh_env")
def start(c: Context, flags: Flags) -> None:
    """Bring every service up and healthy, in order of what they need."""
    _change(c, "start", flags, show_health=True)


@_task("only", *_CHANGING)
def stop(c: Context, flags: Flags) -> None:
    """Bring services down, to stay down: whole process trees gone, ports free."""
    _change(c, "stop", flags)


@_task("only", *_CHANGING, "refresh_env")
def restart(c: Context, flags: Flags) -> None:
    """Restart all, one at a time in order, each healthy before the next."""
    _change(c, "restart", flags)


@_task("name", *_CHANGING, "refresh_env")
def restart_one(c: Context, flags: Flags) -> None:
    """Restart one service, gracefully.

    inv restart-one NAME
    """
    _change(c, "restart-one", flags)


@_task("port", *_CHANGING, "force")
def kill_port(c: Context, flags: Flags) -> None:
    """End whoever listens on a port; its clients are left alone.

    inv kill-port PORT
    """
    _change(c, "kill-port", flags)


@_task("only", *_CHANGING)
def reset(c: Context, flags: Flags) -> None:
    """Emergency: all down, ports freed, stale files cleared, all up again, verified."""
    _change(c, "reset", flags, show_health=True)


@_task("name", *_CHANGING)
def hold(c: Context, flags: Flags) -> None:
    """Have the monitor leave a service alone, while it goes on watching it.

    inv hold NAME
    """
    _change(c, "hold", flags)


@_task("name", *_CHANGING)
def release(c: Context, flags: Flags) -> None:
    """Give a held service back to the monitor.

    inv release NAME
    """
    _change(c, "release", flags)


@_task(*_LOOKING, "watch", "timeout")
def status(c: Context, flags: Flags) -> None:
    """What runs, from records and the process table alone: instant, nobody is asked."""
    _report(c, "status", flags)


@_task(*_LOOKING, "watch", "timeout")
def health(c: Context, flags: Flags) -> None:
    """Ask every service everything, side by side; exit code 2 when something is not well."""
    _report(c, "health", flags)


@_task("name", "limit", "forks", "lines", "no_follow", "json")
def tail(c: Context, flags: Flags) -> None:
    """Follow logs: a service, `monitor`, `alerts`, or `all` merged.

    inv tail NAME
    """
    _positional("tail", flags.name)

    def body() -> int:
        from ops.face import following

        lines = given.whole(flags.lines or "10", "--lines", 0, 1_000_000)
        return following.tail(flags.name, lines, not flags.no_follow, flags.json, _way(c, flags))

    _ended("tail", flags.json, body)


@_task("limit", "forks", "lines", "json")
def alerts(c: Context, flags: Flags) -> None:
    """What went wrong, newest last."""

    def body() -> int:
        from ops.face import reading

        lines = given.whole(flags.lines or "20", "--lines", 1, 1_000_000)
        return reading.alerts(lines, flags.json, _way(c, flags))

    _ended("alerts", flags.json, body)


@_task(*_LOOKING, "since")
def report(c: Context, flags: Flags) -> None:
    """Uptime, recovery times, restarts, response times, CPU and memory, per service, over a window."""

    def body() -> int:
        from ops.face import reading
        from ops.operations.verbs import Request

        window = {"since": given.span(flags.since, "--since")}
        return reading.kpis(Request("report", given.names(flags.only), options=window), flags.json, _way(c, flags))

    _ended("report", flags.json, body)


@_task("json")
def monitor(c: Context, flags: Flags) -> None:
    """Watch and bring back what dies, in this terminal, until Ctrl-C."""

    def body() -> int:
        from ops.face import watching

        return watching.monitor(flags.json)

    _ended("monitor", flags.json, body)


@_task(*_CHANGING)
def monitor_start(c: Context, flags: Flags) -> None:
    """Watch and bring back what dies, in the background."""
    _change(c, "monitor-start", flags)


@_task(*_CHANGING)
def monitor_stop(c: Context, flags: Flags) -> None:
    """Stop watching; services run on."""
    _change(c, "monitor-stop", flags)


@_task(*_CHANGING, "system")
def install_service(c: Context, flags: Flags) -> None:
    """Start the monitor at boot, or login, and have it watched: by launchd or systemd."""
    _change(c, "install-service", flags)


@_task(*_CHANGING, "system")
def uninstall_service(c: Context, flags: Flags) -> None:
    """Start nothing at boot any more; services run on."""
    _change(c, "uninstall-service", flags)


@_task(*_CHANGING)
def bootstrap(c: Context, flags: Flags) -> None:
    """Make hosts ready for all these commands: inv bootstrap --limit HOSTS."""
    _change(c, "bootstrap", flags)


@_task("limit", "json")
def check_inventory(c: Context, flags: Flags) -> None:
    """Validate the inventory and show each service's worst-case recovery time."""

    def body() -> int:
        from ops.face import checking

        return checking.check_inventory(flags.json, _way(c, flags))

    _ended("check-inventory", flags.json, body)


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
        bootstrap,
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

                open_streams()
                known = {name: sorted(context.flags) for name, context in program.parser.contexts.items()}
                task, mistake = mistakes.explain(str(error), sys.argv[1:], known)
                code = told(task, "--json" in sys.argv, mistake.lines(), mistake.exit_code)
                raise Exit(code=code) from None

        return run

    for name in ("parse_tasks", "parse_cleanup"):
        setattr(program, name, explained(getattr(program, name)))


# -- how a task runs and ends ----------------------------------------------------------------------------------


def _change(c: Context, task: str, flags: Flags, *, show_health: bool = False) -> None:
    for word in ("name", "port"):
        if hasattr(flags, word):
            _positional(task, getattr(flags, word))

    def body() -> int:
        from ops.face import changing
        from ops.operations.verbs import Request

        options = {name: getattr(flags, name) for name in ("refresh_env", "system", "force") if hasattr(flags, name)}
        if hasattr(flags, "port"):
            options["port"] = given.whole(flags.port, "port", 1, 65535)
        names = (flags.name,) if hasattr(flags, "name") else given.names(getattr(flags, "only", None))
        check = flags.check or bool(c.config.run.dry)
        request = Request(task, names, check, given.seconds(flags.timeout, "--timeout"), options)
        return changing.change(request, flags.json, _way(c, flags), show_health=show_health)

    _ended(task, flags.json, body)


def _report(c: Context, task: str, flags: Flags) -> None:
    def body() -> int:
        from ops.face import reading
        from ops.operations.verbs import Request

        timeout = given.seconds(getattr(flags, "timeout", ""), "--timeout")
        request = Request(task, given.names(flags.only), timeout=timeout)
        return reading.report(request, flags.json, given.seconds(flags.watch, "--watch"), _way(c, flags))

    _ended(task, flags.json, body)


def _way(c: Context, flags: Flags) -> given.Way:
    """Which hosts, and how many at a time. `fab` hands a task the connection to one host."""
    said = {name: getattr(flags, name, "") for name in ("limit", "serial", "forks", "max_fail_percentage")}
    return given.way(**said, connection=c if hasattr(c, "original_host") else None)


def _positional(task: str, value: str) -> None:
    """Invoke hands a flag after a task name over as its positional argument: that must never run the task."""
    if value.startswith("-"):

        def refuse() -> int:
            raise UsageError(f"{task}: unknown flag {value!r}, or a name is missing", next=f"inv {task} --help")

        _ended(task, "--json" in sys.argv, refuse)


def _ended(task: str, json: bool, body: Callable[[], int]) -> None:
    """The one door through which a task ends."""
    open_streams()
    _help_instead()

    def checked() -> int:
        _refuse_misread_flags()
        return body()

    code = ended(task, json, checked)
    if code:
        raise Exit(code=code)


def _refuse_misread_flags() -> None:
    """`inv stop restart-one --bogus`: Invoke would stop everything before it finds that --bogus is no service."""
    words = sys.argv[1:]
    flags = {f"--{name.replace('_', '-')}" for name in (*_FLAGS, "dry", "debug", "echo", "pty", "hide")}
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
