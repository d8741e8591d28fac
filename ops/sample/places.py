"""Where each of the five services listens, and how the others find it.

Knows: names, ports, environment variables. Must not know: what is said between the services.
"""

from __future__ import annotations

from collections.abc import Mapping

PORTS = {"frontend": 5174, "recon-api": 5103, "overview-api": 5105, "pg-api": 5101, "bank-api": 5102}


def url_of(name: str, environ: Mapping[str, str]) -> str:
    """The base URL of a service without a final slash: `$PG_API_URL` for pg-api, else its usual port here."""
    variable = name.upper().replace("-", "_") + "_URL"
    return (environ.get(variable) or f"http://127.0.0.1:{PORTS[name]}").rstrip("/")
