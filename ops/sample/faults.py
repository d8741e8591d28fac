"""Faults on request: what the stack does when a test, or a curious operator, asks it to misbehave.

Knows: how to misbehave. Must not know: which service does. Loaded only with OPS_SAMPLE_FAULTS=1.

`POST /faults/NAME` begins one, `POST /faults/none` ends those that can be ended, `GET /faults` lists them;
these three are always answered, also during `hang`.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ops.sample.routes import App, Routes
from ops.sample.wire import Request, Response, refusal, reply

if TYPE_CHECKING:
    import subprocess

ANSWERS = ("hang", "500", "degraded", "slow", "wrong-page")  # these change answers while they last
CHILDREN = ("fork-child", "fork-child-setsid", "hold-port")
AT_START = ("slow-start",)  # means nothing later
NAMES = (*ANSWERS, *CHILDREN, *AT_START, "exit0", "exit1", "ignore-term", "leak")

HEALTH = ("/health", "/recon/health")
LEAK_STEP = 2 * 1024 * 1024  # ten times a second
LEAK_LIMIT = 500 * 1024 * 1024
CHILD_LIFE = "86400"  # seconds; "stays" for every test, yet nothing forgotten lives for ever

OTHER_PAGE = (
    b"<!doctype html><title>Welcome to nginx!</title><h1>Welcome to nginx!</h1>"
    b"<p>If you see this page, the web server is successfully installed and working.</p>\n"
)


class Faults:
    """The faults of one process. `say` writes a line to its log."""

    def __init__(self, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._first = [name for name in environ.get("OPS_SAMPLE_FAULT", "").split(",") if name]
        self._slow = float(environ.get("OPS_SAMPLE_SLOW") or 3)
        self._say = say
        self._active: set[str] = set()
        self._children: list[subprocess.Popen[bytes]] = []
        self._listener: socket.socket | None = None

    def unknown(self) -> list[str]:
        """The names in $OPS_SAMPLE_FAULT that are no fault."""
        return [name for name in self._first if name not in NAMES and name != "none"]

    def before_listening(self) -> None:
        """Begins the faults of $OPS_SAMPLE_FAULT, the children excepted: active before the port is open."""
        if "slow-start" in self._first:
            time.sleep(self._slow)
        for name in self._first:
            if name not in (*AT_START, *CHILDREN, "none"):
                self._begin(name)

    def after_listening(self, listener: socket.socket) -> None:
        """Begins the rest: the children. The listener is what a `hold-port` child inherits."""
        self._listener = listener
        for name in self._first:
            if name in CHILDREN:
                self._begin(name)

    def ignores_term(self) -> bool:
        """Whether SIGTERM is to be ignored now."""
        return "ignore-term" in self._active

    def wrap(self, app: App) -> App:
        """The same application, misbehaving while a fault is active."""
        control = Routes(
            ("POST", "/faults/*", lambda _request, name: self._command(name)),
            ("GET", "/faults", lambda *_: reply({"active": sorted(self._active), "known": [*NAMES, "none"]})),
        )

        def misbehave(request: Request) -> Response | None:
            if request.path == "/faults" or request.path.startswith("/faults/"):
                return control(request)
            return self._spoil(request, app)

        return misbehave

    def _spoil(self, request: Request, app: App) -> Response | None:
        if "slow" in self._active:
            time.sleep(self._slow)
        if "hang" in self._active:
            return None
        if "500" in self._active:
            return refusal(500, "the fault 500 is active")
        if "wrong-page" in self._active:
            return Response(200, OTHER_PAGE, "text/html")
        response = app(request)
        if "degraded" in self._active and request.path in HEALTH and response:
            return reply({**json.loads(response.body), "status": "degraded"})
        return response

    def _command(self, name: str) -> Response:
        if name == "none":
            return self._end()
        if name in AT_START:
            return refusal(400, f"{name} means something only in $OPS_SAMPLE_FAULT, at the start")
        if name not in NAMES:
            return refusal(404, f"there is no fault {name}", known=[*NAMES, "none"])
        return reply({"fault": name, "child": self._begin(name)})

    def _begin(self, name: str) -> int | None:
        """Returns the pid of the child that was started for it, if one was."""
        self._say(f"fault {name} begins")
        if name.startswith("exit"):
            os._exit(int(name[-1]))  # at once: whoever asked for it gets no answer either
        if name in CHILDREN:
            return self._spawn(name)
        again = name in self._active
        self._active.add(name)
        if name == "leak" and not again:
            threading.Thread(target=self._leak, daemon=True).start()
        return None

    def _spawn(self, name: str) -> int:
        import subprocess  # 8 ms that no healthy start needs

        held = (self._listener.fileno(),) if name == "hold-port" and self._listener else ()
        own_session = name == "fork-child-setsid"
        child = subprocess.Popen(["sleep", CHILD_LIFE], pass_fds=held, start_new_session=own_session)
        self._children.append(child)
        self._say(f"fault {name}: child {child.pid}")
        return child.pid

    def _leak(self) -> None:
        kept: list[bytes] = []
        while "leak" in self._active and len(kept) * LEAK_STEP < LEAK_LIMIT:
            kept.append(b"x" * LEAK_STEP)  # not zeros: those would be promised by the kernel, not resident
            time.sleep(0.1)
        while "leak" in self._active:
            time.sleep(0.1)

    def _end(self) -> Response:
        ended = sorted(self._active)
        self._active.clear()
        for child in self._children:
            child.kill()
            child.wait()
        self._children.clear()
        self._say(f"faults end: {', '.join(ended) or 'none was active'}")
        return reply({"ended": ended})
