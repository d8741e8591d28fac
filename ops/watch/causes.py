"""Which alerts are told: one per root cause, not one per failed probe or per dependent.

Knows: who needs whom, what is ill at the moment, what was told. Must not know: how services come to be ill, channels,
clocks.

- A service whose need is ill, directly or further away, is not told of: the need is.
- Many failing at once is one event. Of its members only a critical one is told of besides, when it does not come back.
  Who has come back is a member no longer, and who fails later never was one.
- What was held back is told when its cause has been gone for a while and it is ill then.
- Who has only just fallen ill is told of a few seconds later: by then it is seen who fell ill with it.
- `resolved` is told of what was told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from ops.frozen import frozen

AT_ONCE = 0.5  # seconds within which failures count as one event
ALIKE = 5.0  # the same for services that do not need one another: probes see one cause at different moments
_MANY = 3
_NAMED = 12  # of them at most
_LINGER = 15.0  # seconds that a dependent has to come back by itself once its need is well
_LONGEST = 300.0  # seconds that anything is held back at most


@frozen
class Telling:
    """One line for people. `service` "" is the whole stack; `key` names the root cause."""

    severity: Literal["critical", "resolved"]
    service: str
    text: str
    key: str


class Causes:
    """Remembers what was told. The methods give what is to be told now."""

    def __init__(
        self, needs: Mapping[str, Sequence[str]], critical: Collection[str] = (), before: Causes | None = None
    ) -> None:
        self._needs = needs
        self._critical = critical
        self._told: set[str] = before._told if before else set()
        # What is held back: its text, and when its cause was last seen.
        self._held_back: dict[str, tuple[str, float]] = before._held_back if before else {}
        self._since: dict[str, float] = before._since if before else {}  # since when it is held back
        self._recent: list[tuple[float, str]] = before._recent if before else []
        self._mass: set[str] = before._mass if before else set()  # who is still ill of those that failed at once
        self._failed: set[str] = before._failed if before else set()  # all of those
        self._untold: set[str] = before._untold if before else set()  # those of an event that is still gathering
        self._fresh: dict[str, str] = before._fresh if before else {}  # what is to be told of who has just fallen ill

    def began(self, service: str, now: float) -> None:
        """A service has begun to be ill. Nothing is told of it yet: with the next tick it is seen who all fell ill."""
        if service in self._mass:  # well for less than a tick: it has not come back, and draws nobody into its event
            return
        self._recent = [(at, name) for at, name in self._recent if now - at <= ALIKE and name != service]
        self._recent.append((now, service))
        names = self._fallen_together(now)
        known = bool(self._mass & names)
        if not known and len(names) < max(_MANY, (len(self._needs) + 1) // 2):
            return
        self._mass |= names
        self._failed |= names
        if not known or self._untold:
            self._untold |= names

    def _fallen_together(self, now: float) -> set[str]:
        ill = {name for _, name in self._recent}
        alike = {name for name in ill if not self._all_needs(name) & ill}
        return max({name for at, name in self._recent if now - at <= AT_ONCE}, alike, key=len)

    def memory(self) -> dict[str, list[str]]:
        """What is told and not over, in plain values."""
        return {"told": sorted(self._told), "failed": sorted(self._failed)}

    def is_told(self, service: str) -> bool:
        """Whether an alert of it was told and is not over."""
        return service in self._told

    def recall(self, memory: object) -> list[str]:
        """Takes up what another has told; the services that were ill by that, those told one by one first."""
        said = memory if isinstance(memory, dict) else {}
        told, failed = ([one for one in said.get(key, []) if isinstance(one, str)] for key in ("told", "failed"))
        self._told |= set(told)
        self._failed, self._mass = self._failed | set(failed), self._mass | set(failed)
        return [*told, *(name for name in failed if name not in told)]

    def tell(self, service: str, text: str) -> list[Telling]:
        """Something of a service has to be told, whatever else is ill."""
        self._forget(service)
        return self._tell(service, text)

    def alert(self, service: str, text: str, now: float, ill: Collection[str]) -> list[Telling]:
        """Something of a service has to be told."""
        if self._explained(service, ill):
            self._held_back[service] = (text, now)
            self._since.setdefault(service, now)
            return []
        if any(name == service and now - at <= ALIKE for at, name in self._recent):
            self._fresh[service] = text
            return []
        return self._tell(service, text)

    def resolved(self, service: str, text: str) -> list[Telling]:
        """What was to be told of a service is over."""
        self._forget(service)
        self._since.pop(service, None)
        if service not in self._told:
            return []
        self._told.discard(service)
        return [Telling("resolved", service, text, service)]

    def tick(self, now: float, ill: Collection[str]) -> list[Telling]:
        """Time has passed."""
        found: list[Telling] = []
        if self._untold:
            found.append(Telling("critical", "", self._at_once(self._untold), "mass"))
            self._untold = set()
        elif self._failed and not self._mass & set(ill):
            found.append(Telling("resolved", "", f"all {len(self._failed)} are well again", "mass"))
            self._failed = set()
        self._mass &= set(ill)
        for service, text in list(self._fresh.items()):
            del self._fresh[service]
            found += self.alert(service, text, now, set(ill) - {service}) if service in self._needs else []
        for service, (text, seen) in list(self._held_back.items()):
            if service not in self._needs:
                del self._held_back[service]
            elif self._explained(service, ill) and now - self._since.get(service, now) < _LONGEST:
                self._held_back[service] = (text, now)
            elif now - seen >= _LINGER and service in ill:
                del self._held_back[service]
                found += self._tell(service, text)
        return found

    def _forget(self, service: str) -> None:
        """What was to be told of it later."""
        self._held_back.pop(service, None)
        self._fresh.pop(service, None)

    def _at_once(self, names: Collection[str]) -> str:
        places = {name: place for place, name in enumerate(self._needs)}  # as the inventory lists them
        ordered = sorted(names, key=lambda name: (name not in self._critical, places.get(name, len(places)), name))
        shown = ", ".join(ordered[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f"{len(names)} services failed at once: {shown}{more}"

    def _tell(self, service: str, text: str) -> list[Telling]:
        self._since.pop(service, None)
        if service in self._told:  # of this outage already
            return []
        self._told.add(service)
        return [Telling("critical", service, text, service)]

    def _explained(self, service: str, ill: Collection[str]) -> bool:
        """Whether its illness follows from something that is told of already."""
        if service in self._mass and service not in self._critical:
            return True
        return bool(self._all_needs(service) & set(ill))

    def _all_needs(self, service: str) -> set[str]:
        found: set[str] = set()
        waiting = list(self._needs.get(service, ()))
        while waiting:
            need = waiting.pop()
            if need not in found:
                found.add(need)
                waiting += self._needs.get(need, ())
        return found - {service}
