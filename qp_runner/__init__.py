"""qp_runner: in which order, and when, should pruning and quantization enter training?"""

import getpass
import os

__version__ = "0.1.0"

try:
    getpass.getuser()
except (KeyError, OSError):  # a container's user without a name, for which torch can't be imported
    os.environ["USER"] = str(os.getuid())
