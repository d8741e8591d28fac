"""The monitor beside other supervisors: the same service, the same clock, in turns, within one run.

`python -m benchmarks supervision`; what is measured and how is in ../README.md. Linux only.
"""
