"""The soak: the sample stack under load and random faults, watched by a client that knows nothing of the toolkit.

    inv dev.soak --minutes 10 [--seed S]           # or: python -m tests.soak

`plan` draws the faults, `faults` does them, `client` is the client, `witness` and `judgement` say what was seen, `run`
puts them together. Everything is the real thing: `inv`, services, monitor and guard as processes, in a folder of the
run's own, on ports bound from 0.
"""
