"""What a check found wrong, in the order it was found: which check, which tensor, op or file, expected, found, next step."""

from __future__ import annotations

from edgekd.core.artifacts import Json

MAX_FAILURES = 50  # a wholly wrong file would otherwise print every tensor
AGAIN = (
    "convert again from the exported network; if it persists, the file was changed after conversion"
)


class Failures:
    """The first MAX_FAILURES rows, and how many there were in all."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Json]] = []
        self.count = 0

    def add(
        self, check: str, where: str, name: str, expected: Json, found: Json, next_step: str = AGAIN
    ) -> None:
        """`where` says what `name` is: "tensor", "op" or (beside the model) "file"."""
        self.count += 1
        if len(self.rows) < MAX_FAILURES:
            self.rows.append(
                {
                    "check": check,
                    where: name,
                    "expected": expected,
                    "found": found,
                    "next_step": next_step,
                }
            )

    def of(self, check: str) -> list[dict[str, Json]]:
        """The rows of one check."""
        return [row for row in self.rows if row["check"] == check]
