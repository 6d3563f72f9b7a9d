"""`edgekd build` in which the training of the teacher fails on one process.

torchrun ... -m tests.failing RANK build ...
"""

import os
import sys
from typing import Any, NoReturn

from edgekd.app import cli
from edgekd.core.errors import DataError
from edgekd.pipeline.stages import teacher


def fail(*_: Any, **__: Any) -> NoReturn:
    """Stands in for the training of the teacher. Raises DataError."""
    raise DataError(f"process {os.environ['RANK']} cannot go on")


if __name__ == "__main__":
    if os.environ["RANK"] == sys.argv[1]:
        teacher._Training.finetune = fail
    sys.exit(cli.main(sys.argv[2:]))
