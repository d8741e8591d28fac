"""Hands the package's commands to `inv`, and the developers' own besides."""

from ops import dev, dev_soak
from ops.commands import namespace

ns = namespace(__file__)
ns.add_task(dev.run_tests)
ns.add_collection(dev_soak.collection())
