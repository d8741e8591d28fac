"""What to type after a task that changes things did not come to its end everywhere.

Knows: requests, how they are typed, outcomes. Must not know: how either came about, when it is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ops.face.given import Way
from ops.model import Outcome
from ops.operations.verbs import Request

HOST = "host"  # an outcome of the host itself: it was not reached, or not asked
_RESTARTING = ("restart", "restart-one", "reset")
_BOOTSTRAP = "inv bootstrap --limit"


def is_unwell(outcome: Outcome) -> bool:
    """Failed, or of a host that was never asked."""
    return outcome.state in ("failed", "unreachable") or (outcome.state == "skipped" and outcome.service == HOST)


def interrupted(name: str, task: str) -> Outcome:
    """Of a host that had told nothing when it was broken off."""
    why = "interrupted before anything was told"
    return Outcome(HOST, task, "skipped", "unknown", "unknown", why, host=name)


def again(outcomes: Iterable[Outcome], request: Request, way: Way) -> list[str]:
    """The lines for the hosts on which it did not come to its end. What failed with a line of its own is not told to be
    tried again as it was."""
    unwell = [outcome for outcome in outcomes if is_unwell(outcome)]
    bare = _hosts(one for one in unwell if any(_BOOTSTRAP in line for line in one.more))
    rest = _hosts(one for one in unwell if one.host not in bare and _is_to_be_tried_again(one))
    lines = [f"next:   {_BOOTSTRAP} {','.join(bare)}"] if bare else []
    return [*lines, *([f"next:   {carrying_on(request, ','.join(rest), way, anew=True)}"] if rest else [])]


def _is_to_be_tried_again(outcome: Outcome) -> bool:
    return outcome.service == HOST or not any(line.lstrip().startswith("next:") for line in outcome.more)


def _hosts(outcomes: Iterable[Outcome]) -> list[str]:
    return list(dict.fromkeys(outcome.host for outcome in outcomes))


def after_interruption(request: Request, way: Way, hosts: Sequence[str], untold: Sequence[str]) -> str:
    """The line that carries on. What a restart has begun on a host is brought up; the others are still to be
    restarted."""
    told = [name for name in hosts if name not in untold]
    if request.task not in _RESTARTING or not untold or not told:
        return carrying_on(request, ",".join(hosts), way, anew=bool(untold) and not told and len(hosts) > 1)
    begun = carrying_on(request, ",".join(told), way)
    return f"{begun}    then: {carrying_on(request, ','.join(untold), way, anew=True)}"


def carrying_on(request: Request, limit: str = "", way: Way | None = None, *, anew: bool = False) -> str:
    """The line that carries on with what was interrupted, on these hosts. What a restart or reset has ended is started;
    what it has not reached is left as it is. `anew`: the same again."""
    task = "start" if request.task in _RESTARTING and not anew else request.task
    words = ["inv", task]
    if task == "kill-port":
        words += [str(request.options["port"])] + (["--force"] if request.options.get("force") else [])
    elif task in ("hold", "release", "restart-one"):
        words += request.only
    elif request.only:
        words += ["--only", ",".join(request.only)]
    words += ["--limit", limit] if limit else []
    words += ["--serial", way.serial] if way and way.serial and anew else []
    words += ["--max-fail-percentage", f"{way.most:g}"] if way and way.most is not None and anew else []
    words += ["--refresh-env"] if request.task == "start" and request.options.get("refresh_env") else []
    return " ".join(words + (["--check"] if request.check else []))
