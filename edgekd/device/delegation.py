"""What a log says of delegates: which part of the graph each one took, and what it left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from edgekd.device.device_text import clean
from edgekd.device.log_lines import benchmark_lines, delegate_lines
from edgekd.device.log_lines.reader import read_log

MAX_UNSUPPORTED = 3  # operators that a note names; the others are counted
CPU = "the rest ran on the CPU's built-in kernels"
# LiteRT's compiler plug-in of an NPU, and the delegate that runs what it has compiled.
PLUG_IN, DISPATCH = "NPU plug-in", "DispatchDelegate"


class Extent(Enum):
    """How much of the graph a delegate runs, by the tool's own word."""

    WHOLE = "whole"
    PART = "part"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Share:
    """The operators that a delegate took, of one subgraph.

    `whole` and `pieces` are None where the version of the runtime does not tell them.
    """

    delegate: str
    part: int
    whole: int | None
    pieces: int | None
    subgraph: int

    def __str__(self) -> str:
        of = f" of {self.whole}" if self.whole is not None else ""
        pieces = f" in {_parts(self.pieces)}" if self.pieces is not None else ""
        where = f" of subgraph {self.subgraph}" if self.subgraph else ""
        return f"{self.delegate} took {self.part}{of} operators{where}{pieces}"


@dataclass(frozen=True)
class Delegation:
    """The delegates of one run.

    `applied`: {delegate, as the tool calls it: how much it runs}. `kernels`: {delegate: its pieces}
    for those that run a part. `unsupported`: operators that the GPU leaves to the CPU, with the
    reason. `gpu`: operators that it takes and leaves, or None. `missing`: delegates that could not
    be created. `withdrawn`: how often operators were given back. `unknown_flags`: flags that the
    tool ignored.
    """

    shares: tuple[Share, ...] = ()
    applied: tuple[tuple[str, Extent], ...] = ()
    kernels: tuple[tuple[str, int], ...] = ()
    unsupported: tuple[str, ...] = ()
    gpu: tuple[int, int] | None = None
    missing: tuple[str, ...] = ()
    withdrawn: int = 0
    unknown_flags: str = ""

    def extent(self, kind: str) -> Extent | None:
        """How much the delegate of that kind ("gpu", "nnapi", "xnnpack") runs; None where the log
        does not say.
        """
        told = [extent for name, extent in self.applied if name.lower().startswith(kind)]
        if told:
            return told[-1]
        if any(name.lower() == kind for name in self.missing):
            return Extent.NOTHING
        if kind == "gpu" and self.gpu is not None and self.gpu[0] == 0:
            return Extent.NOTHING
        shares = [share for share in self.shares if _is_of(share.delegate, kind)]
        if not shares:
            return Extent.NOTHING if self.withdrawn and not self.shares else None
        if not any(share.part for share in shares):
            return Extent.NOTHING
        return Extent.WHOLE if all(share.part == share.whole for share in shares) else Extent.PART

    def notes(self) -> list[str]:
        """What the reader of the times has to know; empty when one delegate took everything."""
        notes = _share_notes(self.shares, self.applied)
        shared = {share.delegate for share in self.shares}
        for name, pieces in self.kernels:
            if not any(_is_of(delegate, name) for delegate in shared):
                notes.append(f"{name} took some of the operators, in {_parts(pieces)}; {CPU}")
        if self.gpu is not None and self.gpu[1] and not any(_is_of(name, "gpu") for name in shared):
            notes.append(f"GPU took {self.gpu[0]} of {sum(self.gpu)} operators; {CPU}")
        if self.unsupported:
            more = len(self.unsupported) - MAX_UNSUPPORTED
            notes.append(
                "the GPU does not run "
                + "; ".join(self.unsupported[:MAX_UNSUPPORTED])
                + (f"; and {more} more" if more > 0 else "")
            )
        if self.withdrawn:
            notes.append(
                "a delegate failed after it had taken operators, and gave them back"
                + (f" ({self.withdrawn} times)" if self.withdrawn > 1 else "")
            )
        if self.unknown_flags:
            notes.append(f"this build of the tool does not know {self.unknown_flags}: ignored")
        return list(dict.fromkeys(notes))


def _parts(count: int) -> str:
    return "1 part" if count == 1 else f"{count} parts"


def _is_of(name: str, kind: str) -> bool:
    """Whether a delegate's node, such as TfLiteGpuDelegateV2, is of that kind."""
    plain, wanted = name.lower(), kind.lower()
    return (
        wanted in plain
        or (wanted == "gpu" and plain in ("litert_cl", "litert_gl", "litert_wgpu"))
        or (wanted == "npu" and plain == DISPATCH.lower())
    )


def _share_notes(shares: Sequence[Share], applied: Sequence[tuple[str, Extent]]) -> list[str]:
    whole = {name for name, extent in applied if extent == Extent.WHOLE}
    notes = []
    for place, share in enumerate(shares):
        complete = any(_is_of(share.delegate, name) for name in whole)
        if share.part == share.whole or (share.whole is None and complete):
            continue
        after = [
            later.delegate
            for later in shares[place + 1 :]
            if later.subgraph == share.subgraph and later.delegate != share.delegate
        ]
        rest = f"the rest was offered to {after[0]}" if after else CPU
        if share.whole is None:
            rest = f"of how many, this version does not say; {rest}"
        notes.append(f"{share}; {rest}")
    return notes


def read_delegation(log: str) -> Delegation:
    """What the log of benchmark_model, or of another program with delegates, says of them."""
    found = Delegation()
    listing = False
    for line in read_log(log):
        row, groups = line.line, line.groups
        if row is None:
            if listing:
                left = clean(line.text).rstrip(":.")
                found = replace(found, unsupported=(*found.unsupported, left))
            continue
        listing = row is delegate_lines.UNSUPPORTED
        if row in (delegate_lines.REPLACING, delegate_lines.OLD_REPLACING):
            found = replace(found, shares=_with(found.shares, groups))
        elif row is delegate_lines.NPU_PARTITION:
            found = replace(found, shares=_with(found.shares, {**groups, "delegate": PLUG_IN}))
        elif row is delegate_lines.RESTORED:
            found = replace(found, shares=(), withdrawn=found.withdrawn + 1)
        elif row in EXTENTS:
            told = (groups["delegate"], EXTENTS[row])
            found = replace(found, applied=(*found.applied, told))
            if "kernels" in groups:
                piece = (groups["delegate"], int(groups["kernels"]))
                found = replace(found, kernels=(*found.kernels, piece))
        elif row in (
            delegate_lines.GPU_SHARE,
            delegate_lines.GPU_NOTHING,
            delegate_lines.GPU_FIRST,
        ):
            found = replace(found, gpu=(int(groups.get("part", "0")), int(groups["rest"])))
        elif row is delegate_lines.NOT_HERE:
            found = replace(found, missing=(*found.missing, groups["delegate"]))
        elif row is benchmark_lines.UNKNOWN_FLAGS:
            found = replace(found, unknown_flags=clean(groups["flags"])[:200])
    return replace(found, shares=tuple(_completed(share, found.gpu) for share in found.shares))


def _completed(share: Share, gpu: tuple[int, int] | None) -> Share:
    """A share of an old version with the number of all operators, where the GPU's list tells it."""
    if gpu is None or share.whole is not None or not _is_of(share.delegate, "gpu"):
        return share
    return replace(share, whole=sum(gpu)) if share.part == gpu[0] else share


EXTENTS = {
    delegate_lines.COMPLETELY: Extent.WHOLE,
    delegate_lines.PARTIALLY: Extent.PART,
    delegate_lines.NOT_AT_ALL: Extent.NOTHING,
}


def _with(shares: tuple[Share, ...], groups: dict[str, str]) -> tuple[Share, ...]:
    """The shares and one more. A line that is printed twice, as on Android, counts once."""
    share = Share(
        clean(groups["delegate"]),
        int(groups["part"]),
        int(groups["whole"]) if "whole" in groups else None,
        int(groups["pieces"]) if "pieces" in groups else None,
        int(groups.get("subgraph", "0")),
    )
    return shares if share in shares else (*shares, share)
