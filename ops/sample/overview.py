"""overview-api: the three others in one answer, with what is known when not all of them are there.

Knows: what to ask and how to sum up. Must not know: sockets, how to show it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ops.sample.client import Unreachable, fetch_all
from ops.sample.places import url_of
from ops.sample.routes import Routes, health_of
from ops.sample.wire import reply

UPSTREAM_TIME = 1.0


def app(environ: Mapping[str, str]) -> Routes:
    """overview-api: `/health` and `/overview`."""
    urls = {
        "pg-api": url_of("pg-api", environ) + "/payments/summary",
        "bank-api": url_of("bank-api", environ) + "/credits/summary",
        "recon-api": url_of("recon-api", environ) + "/recon/jobs?limit=1",
    }
    return Routes(
        ("GET", "/health", lambda *_: health_of("overview-api")),
        ("GET", "/overview", lambda *_: reply(_overview(fetch_all(urls, UPSTREAM_TIME)))),
    )


def _overview(found: Mapping[str, Any]) -> dict[str, Any]:
    notes = [f"{name}: {why}" for name, why in found.items() if isinstance(why, Unreachable)]
    known = {name: None if isinstance(seen, Unreachable) else seen for name, seen in found.items()}
    payments, credited, recon = known["pg-api"], known["bank-api"], known["recon-api"]
    return {
        "status": "partial" if notes else "complete",
        "payments": payments,
        "credits": credited,
        "recon": recon and {"jobs": recon["count"], "last": next(iter(recon["jobs"]), None)},
        "difference": payments["amount"] - credited["amount"] if payments and credited else None,
        "notes": notes,
        "generated_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    }
