"""The differences that the checks found, in the order in which they were found."""

from __future__ import annotations

from typing import Literal

from edgekd.core.artifacts import Json
from edgekd.proof.certificate_record import Failure

MAX_FAILURES = 50  # rows that are kept; a file of another network would list every tensor
AGAIN = (
    "convert again from the exported network; if the difference stays, the file was changed after "
    "the conversion"
)

Place = Literal["tensor", "op", "file"]


class Failures:
    """The first MAX_FAILURES failures as `rows`, and the number of all as `count`."""

    def __init__(self) -> None:
        self.rows: list[Failure] = []
        self.count = 0

    def add(
        self,
        check: str,
        place: Place,
        name: str,
        expected: Json,
        found: Json,
        next_step: str = AGAIN,
    ) -> None:
        """Record one failure of `check` at the tensor, operator or file `name`.

        `expected` and `found` are plain JSON values.
        """
        self.count += 1
        if len(self.rows) < MAX_FAILURES:
            named = {place: name}
            self.rows.append(
                Failure(check=check, expected=expected, found=found, next_step=next_step, **named)
            )

    def extend(self, others: Failures) -> None:
        """Record failures that were found apart, behind these."""
        self.count += others.count
        self.rows += others.rows[: MAX_FAILURES - len(self.rows)]

    def of(self, check: str) -> list[Failure]:
        """The failures of one check."""
        return [row for row in self.rows if row.check == check]
