"""The toolkit. Invoke turns the writing of bytecode off for everything that it imports, which would have every `inv`
compile all rooms anew (60 ms of 100): here it is turned on again, unless the user has turned it off."""

import os
import sys

__version__ = "0.1.0"

sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
