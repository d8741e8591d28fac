"""Reconciliation: which payment the bank has credited, and what does not fit. Pure.

Knows: payments and credits as rows with `utr` and `amount`. Must not know: HTTP, files, where rows come from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Row = dict[str, Any]


KINDS = ("amount_mismatch", "missing_in_bank", "missing_in_pg", "duplicates")


class Result(NamedTuple):
    """`counts` by kind, and a row for everything that is not simply matched."""

    counts: dict[str, int]
    exceptions: list[Row]


def reconcile(payments: list[Row], credits: list[Row]) -> Result:
    """Matches by utr. The first credit of a utr counts, each further one is a duplicate.

    Payments that were not captured are due no credit and are only counted in `payments`.
    """
    first: dict[str, Row] = {}
    exceptions: list[Row] = []
    for credit in credits:
        if first.setdefault(credit["utr"], credit) is not credit:
            exceptions.append(_exception("duplicates", None, credit))
    due = {row["utr"]: row for row in payments if row["status"] == "captured"}
    exceptions += [found for utr, row in due.items() if (found := _compare(row, first.get(utr)))]
    exceptions += [_exception("missing_in_pg", None, row) for utr, row in first.items() if utr not in due]
    return Result(_counts(payments, credits, due, exceptions), exceptions)


def _compare(payment: Row, credit: Row | None) -> Row | None:
    if credit is None:
        return _exception("missing_in_bank", payment, None)
    if credit["amount"] != payment["amount"]:
        return _exception("amount_mismatch", payment, credit)
    return None


def _exception(kind: str, payment: Row | None, credit: Row | None) -> Row:
    either = payment or credit or {}
    return {
        "kind": kind,
        "utr": either["utr"],
        "paid": payment and payment["amount"],
        "credited": credit and credit["amount"],
    }


def _counts(payments: list[Row], credits: list[Row], due: dict[str, Row], found: list[Row]) -> dict[str, int]:
    kinds = [row["kind"] for row in found]
    return {
        "payments": len(payments),
        "credits": len(credits),
        "matched": len(due) - kinds.count("missing_in_bank") - kinds.count("amount_mismatch"),
        **{kind: kinds.count(kind) for kind in KINDS},
    }
