"""One module per measurement: TITLE, and `measure(run)`, which returns its rows."""

from __future__ import annotations

from types import ModuleType

from benchmarks.supervision.metrics import (
    cpu,
    crash,
    death,
    hung,
    memory,
    planned,
    restarts,
    rotation,
    takeover,
    thousand,
    tree,
)

ALL: dict[str, ModuleType] = {
    "crash": crash,
    "hung": hung,
    "memory": memory,
    "cpu": cpu,
    "restarts": restarts,
    "thousand": thousand,
    "takeover": takeover,
    "rotation": rotation,
    "tree": tree,
    "planned": planned,
    "death": death,
}
