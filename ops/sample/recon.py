"""recon-api: reconciles payments with credits and keeps the jobs.

Knows: its routes and the order of a job: ask, match, store, answer. Must not know: SQL, sockets.

An upstream that is down is answered 502 and nothing is stored: a job exists only if both sides were seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from ops.sample.client import Unreachable, fetch_all
from ops.sample.jobs import Job, Jobs, StoreFailed
from ops.sample.matching import reconcile
from ops.sample.places import url_of
from ops.sample.routes import Routes, health_of
from ops.sample.wire import Request, Response, refusal, reply

UPSTREAM_TIME = 1.5


def app(environ: Mapping[str, str]) -> Routes:
    """recon-api: health, the demo job, all jobs (newest first, `?limit=N`) or one by its id."""
    recon = _Recon(Jobs(environ.get("OPS_SAMPLE_DATA") or os.path.join("var", "sample")), environ)
    return Routes(
        ("GET", "/recon/health", recon.health),
        ("POST", "/recon/jobs/demo", recon.run),
        ("GET", "/recon/jobs", recon.list),
        ("GET", "/recon/jobs/*", recon.show),
    )


class _Recon:
    def __init__(self, jobs: Jobs, environ: Mapping[str, str]) -> None:
        self._jobs = jobs
        self._sources = {
            "pg-api": url_of("pg-api", environ) + "/payments",
            "bank-api": url_of("bank-api", environ) + "/credits",
        }

    def health(self, _request: Request, _rest: str) -> Response:
        # The sources are not asked: their being down is not this service's illness, and asking takes time.
        complaint = self._jobs.complaint()
        if complaint:
            return health_of("recon-api", status="degraded", database=complaint)
        return health_of("recon-api", database="writable")

    def run(self, _request: Request, _rest: str) -> Response:
        found = fetch_all(self._sources, UPSTREAM_TIME)
        missing = {name: str(why) for name, why in found.items() if isinstance(why, Unreachable)}
        if missing:
            return refusal(502, "no reconciliation without both sides; no job was stored", upstreams=missing)
        try:
            job = _job(found["pg-api"]["payments"], found["bank-api"]["credits"])
        except (KeyError, TypeError, AttributeError) as why:
            return refusal(502, "a side answered rows of another form; no job was stored", missing=repr(why))
        try:
            self._jobs.add(job)
        except StoreFailed as why:
            return _not_stored(why)
        return reply(job, 201)

    def list(self, request: Request, _rest: str) -> Response:
        limit = _limit(request.query)
        if limit is None:
            return refusal(400, "limit is not a number")
        try:
            jobs = self._jobs.newest(limit)
            total = self._jobs.count()
        except StoreFailed as why:
            return refusal(503, str(why))
        return reply({"count": total, "jobs": [_without_exceptions(job) for job in jobs]})

    def show(self, _request: Request, rest: str) -> Response:
        try:
            job = self._jobs.find(rest)
        except StoreFailed as why:
            return refusal(503, str(why))
        return reply(job) if job else refusal(404, f"there is no job {rest}")


def _job(payments: list[dict[str, Any]], credits: list[dict[str, Any]]) -> Job:
    result = reconcile(payments, credits)
    made = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    return {
        # The moment is for people, the random 40 bits make it unique: over restarts and a lost database too.
        "id": f"job-{made[:19].replace('-', '').replace(':', '')}-{os.urandom(5).hex()}",
        "created_at": made,
        "status": "completed",
        "counts": result.counts,
        "exceptions": result.exceptions,
    }


def _without_exceptions(job: Job) -> Job:
    return {key: value for key, value in job.items() if key != "exceptions"}


def _not_stored(why: StoreFailed) -> Response:
    return refusal(507 if why.full else 503, f"the job was not stored: {why}")


def _limit(query: str) -> int | None:
    """The `limit=N` of a query; -1 (all) without one, None when it is not a number."""
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name == "limit":
            return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
    return -1
