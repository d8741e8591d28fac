"""The fault matrix: one test for each row of `rows.py`; `inv dev.faults` runs them and writes docs/faults.md."""
