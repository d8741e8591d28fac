"""What may be the name of a stack or service, and of a job of the init system.

Knows: their spelling. Must not know: whose they are. Of its own, since an agent needs nothing else of the values.
"""

from __future__ import annotations

import re

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
LABEL = re.compile(r"[A-Za-z0-9._-]{1,128}")
