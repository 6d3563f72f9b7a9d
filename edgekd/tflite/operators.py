"""The operators that an int8 file may hold, and a register of the tables that must know each of
them.

Many rooms keep a table with a row for each operator: its version, its exact arithmetic, its rules
on a device. Such a table is registered beside its definition:

    KERNELS = {Operator.ADD: add, ...}
    operator_table(f"{__name__}.KERNELS", KERNELS, absent={Operator.PADV2: "why it needs no row"})

A test imports every module and names each operator that a table lacks.
docs/how_to/add_an_operator.md walks through adding one.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping


class Operator(enum.StrEnum):
    """A TFLite operator that the int8 route writes, by its name in schema.fbs. A member equals that
    string.
    """

    ADD = "ADD"
    AVERAGE_POOL_2D = "AVERAGE_POOL_2D"
    BATCH_MATMUL = "BATCH_MATMUL"
    CONCATENATION = "CONCATENATION"
    CONV_2D = "CONV_2D"
    DEPTHWISE_CONV_2D = "DEPTHWISE_CONV_2D"
    ELU = "ELU"
    FULLY_CONNECTED = "FULLY_CONNECTED"
    GELU = "GELU"
    HARD_SWISH = "HARD_SWISH"
    L2_NORMALIZATION = "L2_NORMALIZATION"
    LEAKY_RELU = "LEAKY_RELU"
    LOGISTIC = "LOGISTIC"
    MAX_POOL_2D = "MAX_POOL_2D"
    MEAN = "MEAN"
    MUL = "MUL"
    PAD = "PAD"
    PADV2 = "PADV2"  # a pad with a value of its own, before a max pool
    PRELU = "PRELU"
    QUANTIZE = "QUANTIZE"  # at a uint8 input or output only
    RELU = "RELU"
    RELU6 = "RELU6"
    RESHAPE = "RESHAPE"
    RESIZE_BILINEAR = "RESIZE_BILINEAR"
    RESIZE_NEAREST_NEIGHBOR = "RESIZE_NEAREST_NEIGHBOR"
    RSQRT = "RSQRT"
    SLICE = "SLICE"
    SOFTMAX = "SOFTMAX"
    STRIDED_SLICE = "STRIDED_SLICE"
    SUB = "SUB"
    TRANSPOSE = "TRANSPOSE"
    TRANSPOSE_CONV = "TRANSPOSE_CONV"


@dataclasses.dataclass(frozen=True)
class OperatorTable:
    """A table with a row for each operator.

    `name`: its dotted path. `rows`: the operators that have a row; names beside `Operator` are
    allowed, since some tables also serve files of other converters. `absent`: the operators that
    need no row, each with the reason.
    """

    name: str
    rows: frozenset[str]
    absent: Mapping[str, str]

    @property
    def missing(self) -> list[Operator]:
        """The operators that have neither a row nor a reason to have none."""
        return [op for op in Operator if op not in self.rows and op not in self.absent]

    @property
    def contradictory(self) -> list[str]:
        """The operators that have a row and are declared absent, too."""
        return sorted(self.rows & self.absent.keys())


@dataclasses.dataclass(frozen=True)
class OperatorGroup:
    """A set of operators (or a table of exceptions) in which most operators do not belong.

    `default`: what holds for an operator that is not in it.
    """

    name: str
    members: frozenset[str]
    default: str


_tables: dict[str, OperatorTable] = {}
_groups: dict[str, OperatorGroup] = {}


def operator_table(
    name: str, rows: Iterable[str], absent: Mapping[str, str] | None = None
) -> OperatorTable:
    """Register a table with a row for each operator. `name`: the dotted path of its variable."""
    table = OperatorTable(name, frozenset(map(str, rows)), dict(absent or {}))
    _tables[name] = table
    return table


def operator_group(name: str, members: Iterable[str], default: str) -> OperatorGroup:
    """Register a set of operators. `default`: what holds for an operator that is not in it."""
    group = OperatorGroup(name, frozenset(map(str, members)), default)
    _groups[name] = group
    return group


def registered_tables() -> list[OperatorTable]:
    """The tables of all modules that are imported, by name."""
    return [_tables[name] for name in sorted(_tables)]


def registered_groups() -> list[OperatorGroup]:
    """The groups of all modules that are imported, by name."""
    return [_groups[name] for name in sorted(_groups)]
