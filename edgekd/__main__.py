"""`python -m edgekd` is the command line."""

import sys

from edgekd.cli import main

sys.exit(main())
