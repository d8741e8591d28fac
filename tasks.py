"""Hands the package's commands to `inv`, and the developers' own besides."""

from ops import dev
from ops.commands import namespace

ns = namespace(__file__)
ns.add_task(dev.run_tests)
