"""Where the value of each ONNX tensor lies in the file, and in which order of its axes.

Operators read a tensor in the order that they need. A RESHAPE or a TRANSPOSE is written where the
value lies otherwise, once for all readers that need the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgekd.core.artifact_rows import TensorOrigin
from edgekd.core.artifacts import Exported
from edgekd.core.errors import UnsupportedNetwork
from edgekd.export.axis_orders import file_shape, long_axes, merged_transpose, natural
from edgekd.export.model_builder import ModelBuilder
from edgekd.export.tensor_names import INNER
from edgekd.tflite import int8_rules
from edgekd.tflite.operators import Operator


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where the value of an ONNX tensor lies in the file.

    `index`, `shape`: of the file's tensor. `edge`: the edge that it is named after; a view's value
    lies in the tensor of the edge before it. `axes`: the ONNX tensor's axes in the file's order.
    """

    index: int
    shape: tuple[int, ...]
    edge: str
    axes: tuple[int, ...]


class Places:
    """The tensors of the file that hold ONNX tensors.

    `shapes`: of every ONNX tensor. `constants`: the values of the ONNX initializers. `ports`: the
    input and the output where they are uint8.
    """

    exported: Exported
    builder: ModelBuilder
    rows: list[TensorOrigin]
    shapes: dict[str, list[int]]
    constants: dict[str, npt.NDArray[np.float32]]
    ports: set[str]
    stored: dict[str, Stored]

    def lite_shape(self, name: str) -> list[int]:
        """A tensor's shape in the file in its natural order: NHWC where it has four dimensions."""
        return file_shape(self.shapes[name], natural(len(self.shapes[name])))

    def find(self, name: str) -> Stored:
        """Where an ONNX tensor lies. A constant operand is added in its natural order."""
        if name not in self.stored:
            if name not in self.constants:
                raise UnsupportedNetwork(
                    f"the tensor {name!r} has no place in the file",
                    "take a student that `edgekd models` lists, and report the name of this one",
                )
            sizes = list(self.constants[name].shape)
            self.shapes[name] = sizes
            self.stored[name] = self._operand(name, natural(len(sizes)))
        return self.stored[name]

    def find_sizes(self, name: str) -> list[int]:
        """The sizes of an ONNX tensor, or of a constant operand."""
        self.find(name)
        return list(self.shapes[name])

    def read(
        self, name: str, axes: Sequence[int] | None = None, shape: Sequence[int] | None = None
    ) -> int:
        """The index of a tensor that holds an ONNX tensor in this order, and in this shape.

        By default the order is the natural one, and the shape that of the sizes in this order. A
        RESHAPE or a TRANSPOSE is written where the value lies otherwise.
        """
        stored, sizes = self.find(name), self.shapes[name]
        axes = natural(len(sizes)) if axes is None else tuple(axes)
        shape = list(file_shape(sizes, axes) if shape is None else shape)
        same = long_axes(stored.axes, sizes) == long_axes(axes, sizes)
        if same and list(stored.shape) == shape:
            return stored.index
        if name in self.constants:
            return self._operand(name, axes, shape).index
        index, current = stored.index, list(stored.shape)
        if not same:
            before, order, current = merged_transpose(sizes, stored.axes, axes)
            index = self._reshape(name, stored.edge, index, list(stored.shape), before)
            index = self._transpose(name, stored.edge, index, order, current)
        return self._reshape(name, stored.edge, index, current, shape)

    def result_of(
        self, edge: str, axes: Sequence[int] | None = None, shape: Sequence[int] | None = None
    ) -> int:
        """The index of the tensor that an operator writes for an edge, in this order and shape."""
        sizes = self.shapes[edge]
        axes = natural(len(sizes)) if axes is None else tuple(axes)
        shape = file_shape(sizes, axes) if shape is None else list(shape)
        index = self.activation(edge, shape=shape)
        self.stored[edge] = Stored(index, tuple(shape), edge, axes)
        if axes != natural(len(sizes)) or len(shape) != len(sizes):
            self.rows[-1]["order"] = list(axes)
        return index

    def _operand(
        self, name: str, axes: Sequence[int], shape: Sequence[int] | None = None
    ) -> Stored:
        """A constant operand in this order: its codes, in the range of its edge."""
        learned = self.exported.ranges.get(name)
        if learned is None:
            raise UnsupportedNetwork(
                f"the constant {name!r} has no learned range",
                "take a student that `edgekd models` lists, and report the name of this one",
            )
        sizes = self.shapes[name]
        shape = file_shape(sizes, axes) if shape is None else list(shape)
        grid = int8_rules.Range(float(learned["scale"]), int(learned["zero_point"]))
        codes = grid.quantize(self.constants[name]).transpose(axes).reshape(shape)
        first = name not in self.builder.indices
        label = name if first else f"{name}/{'x'.join(map(str, shape))}_{_digits(axes)}"
        if label not in self.builder.indices:
            self.rows.append(
                {"tensor": label, "edge": name, "kind": "constant", "order": list(axes)}
            )
        index = self.builder.tensor(
            label,
            shape,
            "INT8",
            data=codes,
            scale=[learned["scale"]],
            zero_point=[learned["zero_point"]],
        )
        return Stored(index, tuple(shape), name, tuple(axes))

    def _reshape(
        self, name: str, edge: str, index: int, before: Sequence[int], shape: Sequence[int]
    ) -> int:
        if list(before) == list(shape):
            return index
        label = f"{name}/{'x'.join(map(str, shape))}_of_{index}"
        if label in self.builder.indices:
            return self.builder.indices[label]
        target = self.builder.tensor(
            f"{label}_shape", (len(shape),), "INT32", data=np.array(shape, np.int32)
        )
        output = self.activation(edge, label, shape)
        self.builder.op(Operator.RESHAPE, [index, target], [output], None)
        return output

    def _transpose(
        self, name: str, edge: str, index: int, order: Sequence[int], shape: Sequence[int]
    ) -> int:
        label = f"{name}/transposed_{_digits(order)}_of_{index}"
        if label in self.builder.indices:
            return self.builder.indices[label]
        axes = self.builder.tensor(
            f"{label}_order", (len(order),), "INT32", data=np.array(order, np.int32)
        )
        output = self.activation(edge, label, shape)
        self.builder.op(Operator.TRANSPOSE, [index, axes], [output], None)
        return output

    def activation(self, edge: str, name: str = "", shape: Sequence[int] | None = None) -> int:
        """The index of an edge's tensor; with `name`, of another tensor in the same range.

        It is added when it is new.
        """
        learned = self.exported.ranges.get(edge)
        if learned is None:
            raise UnsupportedNetwork(
                f"the tensor {edge!r} has no learned range",
                "take a student that `edgekd models` lists, and report the name of this one",
            )
        name = name or (f"{edge}{INNER}" if edge in self.ports else edge)
        if name not in self.builder.indices:
            self.rows.append({"tensor": name, "edge": edge, "kind": "activation"})
        return self.builder.tensor(
            name,
            self.lite_shape(edge) if shape is None else shape,
            "INT8",
            scale=[learned["scale"]],
            zero_point=[learned["zero_point"]],
        )


def _digits(order: Sequence[int]) -> str:
    return "".join(map(str, order))
