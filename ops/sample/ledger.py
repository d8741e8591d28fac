"""The mock money: payments as a gateway would list them, credits as a bank would, always the same ones.

Knows: the two lists, and the faults built into them. Must not know: HTTP, how they are reconciled.

Amounts are in paise (int). The draws come from CRC-32 of a label: the same on every machine and Python.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any

Row = dict[str, Any]

PAYMENTS = 240
DAYS = 14  # from 2025-01-01, Indian time
FAILED_EVERY = 12  # of the payments: never captured, so no credit is due
METHODS = ("upi", "upi", "upi", "card", "netbanking")

# Built into the credits, by position among the 220 captured payments.
NOT_CREDITED = range(15, 220, 36)  # 6 payments without a credit
CREDITED_WRONG = range(20, 220, 60)  # 4 credits of another amount
CREDITED_TWICE = range(30, 220, 80)  # 3 credits that come a second time
UNKNOWN_CREDITS = 5  # credits of no payment at all


def _draw(label: str, below: int) -> int:
    return zlib.crc32(label.encode()) % below


def _moment(number: int, label: str) -> str:
    day = 1 + number * DAYS // PAYMENTS
    second = _draw(f"second {label} {number}", 86400)
    return f"2025-01-{day:02d}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}+05:30"


def _payment(number: int) -> Row:
    failed = number % FAILED_EVERY == FAILED_EVERY - 1
    return {
        "id": f"pay_{zlib.crc32(f'id {number}'.encode()):08x}{number:04d}",
        "amount": 100 * (50 + _draw(f"rupees {number}", 24_950)) + _draw(f"paise {number}", 100),
        "currency": "INR",
        "method": METHODS[_draw(f"method {number}", len(METHODS))],
        "status": "failed" if failed else "captured",
        "utr": f"SP2501{number:08d}",
        "created_at": _moment(number, "paid"),
    }


def _credit(number: int, utr: str, amount: int, label: str) -> Row:
    return {
        "id": f"cr_{zlib.crc32(f'{label} {utr}'.encode()):08x}",
        "amount": amount,
        "currency": "INR",
        "utr": utr,
        "credited_at": _moment(min(number, PAYMENTS - 1), label),
    }


@lru_cache(maxsize=1)
def payments() -> tuple[Row, ...]:
    """All payments of the fortnight, oldest day first."""
    return tuple(_payment(number) for number in range(PAYMENTS))


@lru_cache(maxsize=1)
def bank_credits() -> tuple[Row, ...]:
    """All credits of the same fortnight, with the deliberate faults named above."""
    rows: list[Row] = []
    for position, payment in enumerate(row for row in payments() if row["status"] == "captured"):
        rows += _credits_for(position, payment)
    rows += [_credit(40 * n, f"XX2501{n:08d}", 100_00 * (n + 1), "unknown") for n in range(UNKNOWN_CREDITS)]
    return tuple(sorted(rows, key=lambda row: (row["credited_at"], row["id"])))


def _credits_for(position: int, payment: Row) -> list[Row]:
    if position in NOT_CREDITED:
        return []
    amount = payment["amount"] - (1_00 if position in CREDITED_WRONG else 0)  # a rupee went astray
    labels = ["credited", "again"] if position in CREDITED_TWICE else ["credited"]
    return [_credit(position * PAYMENTS // 220, payment["utr"], amount, label) for label in labels]
