"""A run that is told to end (Ctrl-C, SIGTERM, a terminal that is closed) first ends what its tests have started: the
test that runs is broken off, its fixtures do their part, no other begins.

Knows: signals, where pytest lets go of a test, that workers of xdist are children of the one that hands out the tests.
Must not know: what a test starts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import psutil
import pytest

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORKERS_PARTING = 50.0  # seconds; xdist by itself kills a worker after ten, and fixtures may need longer


class Parting:
    """One for each process of the run."""

    def __init__(self, session: pytest.Session) -> None:
        self.told = False
        self._clearing = False
        self._pid = os.getpid()
        self._hands_out = session.config.pluginmanager.hasplugin("dsession")
        self._is_worker = hasattr(session.config, "workerinput")
        for number in SIGNALS:
            # A script starts its children in the background with SIGINT ignored, and whoever says nohup means SIGHUP.
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)

    def _hear(self, number: int, _frame: object) -> None:
        if os.getpid() != self._pid:  # forked by a test, and no business of ours
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if self.told:  # by the terminal, and again by who handed it on: what tidies up is not disturbed
            return
        self.told = True
        for worker in self._workers():
            worker.send_signal(signal.SIGINT)
        if not self._clearing:
            raise KeyboardInterrupt

    def _workers(self) -> list[psutil.Process]:
        """It runs no test itself, so whatever it has started is one."""
        return psutil.Process().children() if self._hands_out else []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        self._clearing = True

    def pytest_runtest_logfinish(self) -> None:
        """What was heard while fixtures cleared away counts now."""
        self._clearing = False
        if self.told:
            raise KeyboardInterrupt

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, Any, None]:
        """Before xdist ends its workers they have ended by themselves, each when its fixtures were done. A terminal
        that goes away may end the session before the signal is here, by an error of writing."""
        self._clearing = True
        if self.told:
            psutil.wait_procs(self._workers(), WORKERS_PARTING)
        yield
        if self.told and self._is_worker:
            os._exit(pytest.ExitCode.INTERRUPTED)
