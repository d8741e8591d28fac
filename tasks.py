"""Hands the package's commands to `inv`, and the developers' own besides."""

from ops.commands import namespace
from ops.dev import benchmarks, faults, soak, testing

ns = namespace(__file__)
ns.add_task(testing.run_tests)
ns.add_collection(testing.collection(faults.run_faults, soak.run_soak, benchmarks.run_benchmarks), "dev")
