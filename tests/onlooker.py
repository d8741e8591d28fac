"""A thread that looks again and again while something goes on, and keeps what broke it off."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

Self = TypeVar("Self", bound="Onlooker")


class Onlooker(threading.Thread, ABC):
    """Looks every so many seconds within its `with`. `failure`: what ended it before its time."""

    def __init__(self, every: float) -> None:
        super().__init__(daemon=True)
        self._every = every
        self._over = threading.Event()
        self.failure: BaseException | None = None

    @abstractmethod
    def look(self) -> None:
        """One look."""

    def run(self) -> None:
        try:
            while not self._over.wait(self._every):
                self.look()
        except BaseException as error:
            self.failure = error

    def __enter__(self: Self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join(10)
