"""The page of the soak, and its section on the page of the fault matrix beside it.

Knows: how the page begins, how the two pages are joined. Must not know: how a figure was come by.
"""

from __future__ import annotations

from pathlib import Path

from tests.faults import document
from tests.soak.ground import HASTE

_CHANGED = ", ".join(f"`{name}: {value}`" for name, value in HASTE.items())

HEAD = f"""# The soak

`inv dev.soak --minutes N [--seed S]` runs the sample stack under load, does a random fault every few seconds, and has a
client of its own ask recon-api and submit jobs to it. Findings are what must never be: an acknowledged job that is
lost, a service that runs twice, a process left behind by `inv stop`, a command that fails, a stack that does not become
well again within two minutes, a gap of more than 45 s, a monitor or guard that grows.

The stack is that of the shipped inventory, on ports of its own, and with {_CHANGED}: faults come faster than in life,
so a service is started again sooner, what it has endured is forgiven sooner, and logs are rotated often. The gaps below
are those of this inventory. The load is light: about 30 requests a second, of which 20 ask recon-api how it is and 4
submit a job, from one client. Each is sent when it is due, whatever became of those before it, so a hang of ten
seconds costs 200 answers. recon-api counts as up from one answer to the next that says `healthy`, where no more than
0.2 s lie between them; every longer gap counts as down from its beginning. Some faults withhold recon-api on purpose:
it is stopped by command, its port is a stranger's, its disk is full, or all of ours is killed and nobody has typed
`start` yet. What is missing outside of that is what noticing and repairing takes, which is up to 13 s for a hang, by
the worst case that is computed from the inventory. A fault is counted if it hit somebody. After
all faults have come once, those come for some minutes that leave monitor and guard alone: growth is judged in lives of
120 s or more, from their middle third to the last, and more than 1 MiB or 4 descriptors is a finding. So is a soak of
10 minutes or more without such a life.

Exit codes: 0 no finding, 2 findings, 1 usage, 130 interrupted. It needs Linux; as root it has a disk of its own to
fill. The same seed gives the same faults in the same order, not at the same moments. It runs in a folder and on ports
of its own, and touches no other stack. A run of 10 minutes or more writes this page. How it is built: `tests/soak/`.

{document.SOAK_BEGINS}

"""
SECTION = "\n## The soak\n"  # on the page of the matrix, which ends with it


def publish(page: Path, text: str) -> None:
    """Writes the page; where the page of the matrix lies beside it, that one shows this soak from now on."""
    page.write_text(text, encoding="utf-8")
    matrix = page.with_name("faults.md")
    if matrix.exists():
        rows, _, _ = matrix.read_text(encoding="utf-8").partition(SECTION)
        matrix.write_text(rows + document.soak(page), encoding="utf-8")
