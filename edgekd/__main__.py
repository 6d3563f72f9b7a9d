"""`python -m edgekd` is the command line."""

import sys

from edgekd.app.cli import main

sys.exit(main())
