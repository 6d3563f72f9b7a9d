"""How the lowering names the tensors of the file that are no edge of the network."""

# Behind the name of an edge: the int8 tensor behind a uint8 input, or before a uint8 output, on the
# other side of its QUANTIZE.
INNER = "/int8"
# Behind the name of a window's edge: the border before it.
BORDER = "/pad"
# Behind the name of a layer: its weight.
WEIGHT = ".weight"
