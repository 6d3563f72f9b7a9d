"""What edgetpu_compiler prints about an operator: status strings from logs of 2.0 to 16.0."""

from __future__ import annotations

MAPPED = "Mapped to Edge TPU"
ANOTHER_SUBGRAPH = "More than one subgraph is not supported"
LIMITATION = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
DATA_TYPE = "Operation is working on an unsupported data type"
VERSION = "Operation version not supported"
RANK = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
NOT_CONSTANT = "Filter, bias, or other param is not constant at compile-time"
TWO_D_OUTPUT = "For example, a fully-connected or softmax layer with 2D output"
NOT_SUPPORTED = "Operation not supported"  # logs of 15.0 and 16.0 for LEAKY_RELU and GATHER
# The compiler stops with this text: google-coral/edgetpu issues 829 and 831.
DYNAMIC = (
    "Attempting to use a delegate that only supports static-sized tensors with a graph that has "
    "dynamic-sized tensors."
)
# EdgeKD's own words for an operator that a compiled file holds as it was.
LEFT_TO_CPU = "left to the CPU by the compiler"
STATUSES = (
    MAPPED,
    ANOTHER_SUBGRAPH,
    LIMITATION,
    DATA_TYPE,
    VERSION,
    RANK,
    NOT_CONSTANT,
    TWO_D_OUTPUT,
    NOT_SUPPORTED,
)
