"""pg-api and bank-api: the two sides that are reconciled.

Knows: their routes. Must not know: each other, the reconciler.
"""

from __future__ import annotations

from ops.sample.ledger import Row, bank_credits, payments
from ops.sample.routes import Routes, health_of
from ops.sample.wire import Request, Response, reply


def gateway() -> Routes:
    """pg-api: `/health`, `/payments`, `/payments/summary`."""
    return Routes(
        ("GET", "/health", lambda *_: health_of("pg-api")),
        ("GET", "/payments", _payments),
        ("GET", "/payments/summary", _payments_summary),
    )


def bank() -> Routes:
    """bank-api: `/health`, `/credits`, `/credits/summary`."""
    return Routes(
        ("GET", "/health", lambda *_: health_of("bank-api")),
        ("GET", "/credits", lambda *_: reply({"count": len(bank_credits()), "credits": bank_credits()})),
        ("GET", "/credits/summary", lambda *_: reply(_sum(bank_credits()))),
    )


def _payments(_request: Request, _rest: str) -> Response:
    return reply({"count": len(payments()), "payments": payments()})


def _payments_summary(_request: Request, _rest: str) -> Response:
    captured = tuple(row for row in payments() if row["status"] == "captured")
    return reply({**_sum(captured), "failed": len(payments()) - len(captured)})


def _sum(rows: tuple[Row, ...]) -> dict[str, int | str]:
    return {"count": len(rows), "amount": sum(row["amount"] for row in rows), "currency": "INR"}
