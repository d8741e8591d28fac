"""Runs one of the five services until it is told to stop.

Knows: the command line, signals, exit codes. Must not know: what the services do.

Exit codes: 0 after TERM or INT (drained), 1 when the port cannot be had or a fault is misspelt, 2 bad usage.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ops.sample.places import PORTS
from ops.sample.routes import App
from ops.sample.server import Server, listen, say

if TYPE_CHECKING:
    from ops.sample.faults import Faults


def main() -> int:
    """Serves as the command line says; returns the exit code."""
    options = _options()
    faults = _faults(os.environ)
    if faults and faults.unknown():
        return _refuse(f"no such fault in OPS_SAMPLE_FAULT: {', '.join(faults.unknown())}")
    app = _app(options.name, os.environ)
    if faults:
        faults.before_listening()
        app = faults.wrap(app)
    port = options.port or PORTS[options.name]
    server = Server(app)
    _obey_signals(server, faults)  # before the port is open: whoever sees it open may already send TERM
    try:
        listener = listen(options.host, port)
    except OSError as error:
        return _refuse(f"{options.name} cannot listen on {options.host}:{port}: {error.strerror or error}")
    say(f"{options.name} listening on {options.host}:{port} pid {os.getpid()}")
    if faults:
        faults.after_listening(listener)
    unfinished = server.serve(listener)
    cut_off = f", {unfinished} connections cut off" if unfinished else ""
    say(f"{options.name} stopped pid {os.getpid()}{cut_off}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.sample", description="One sample service.")
    parser.add_argument("name", choices=PORTS, metavar="NAME", help=", ".join(PORTS))
    parser.add_argument("--port", type=int, help="default: the service's usual one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    return parser.parse_args()


def _app(name: str, environ: Mapping[str, str]) -> App:
    # Imported one by one: a service is up the sooner the less it loads.
    if name == "frontend":
        from ops.sample import frontend

        return frontend.app(environ)
    if name == "recon-api":
        from ops.sample import recon

        return recon.app(environ)
    if name == "overview-api":
        from ops.sample import overview

        return overview.app(environ)
    from ops.sample import money

    return money.gateway() if name == "pg-api" else money.bank()


def _faults(environ: Mapping[str, str]) -> Faults | None:
    if environ.get("OPS_SAMPLE_FAULTS") != "1":
        return None
    from ops.sample.faults import Faults

    return Faults(environ, say)


def _obey_signals(server: Server, faults: Faults | None) -> None:
    def stop(number: int, _frame: object) -> None:
        if not (number == signal.SIGTERM and faults and faults.ignores_term()):
            server.stop()

    signal.set_wakeup_fd(server.wake_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _refuse(line: str) -> int:
    print(line, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
