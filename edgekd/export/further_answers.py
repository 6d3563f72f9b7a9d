"""What a network gives beside its answers, on test images: the float network, the trained int8
network, and the .tflite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from edgekd.core.artifact_rows import FurtherRow
from edgekd.core.artifacts import LiteModel, Network, QuantNetwork
from edgekd.export.axis_orders import natural
from edgekd.networks import builders
from edgekd.networks.further_outputs import AllOutputs
from edgekd.quantization import integer_pass
from edgekd.quantization.restoring import rebuild
from edgekd.tflite.runtime import LiteRunner, tensor_range

IMAGES = 256  # test images that the figures rest on: an output may be a map of a megabyte
# Bytes of an output that the golden set holds; it has at least one image of each.
GOLDEN_BYTES = 2**22
BATCH = 16  # images of a forward pass of the float network
TINY = 1e-12  # in place of a norm, or an error, of zero

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def measure(
    student: Network,
    qat: QuantNetwork,
    model: LiteModel,
    images: Pixels,
    seen: Pixels,
    golden: Sequence[int],
) -> tuple[list[FurtherRow], bytes, bytes]:
    """A row for each further output, and the codes of golden images: the file's, and the trained
    network's.

    `images`: of the test split as the file takes them, uint8 [n, height, width, channels]. `seen`:
    the same as the float network takes them. `golden`: indices of the golden ones.
    The codes are int8, row by row, in the order and layout of the file; ([], b"", b"") for a
    network with one output.
    """
    runner = LiteRunner(model.tflite)
    tensors = runner.outputs[1:]
    if not tensors:
        return [], b"", b""
    orders = {row["edge"]: row["order"] for row in model.correspondence if "order" in row}
    sums = {tensor.name: _Sums() for tensor in tensors}
    grids = {tensor.name: tensor_range(tensor) for tensor in tensors}
    axes: dict[str, list[int]] = {}
    for image, real in zip(images[:IMAGES], _float(student, seen[:IMAGES]), strict=True):
        runner.codes(image[None])
        for name, codes in runner.further_codes().items():
            axes.setdefault(name, list(orders.get(name, natural(real[name].ndim))))
            sums[name].add(real[name].transpose(axes[name]), grids[name].dequantize(codes))
    rows: list[FurtherRow] = [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "axes": axes[tensor.name],
            "images": sums[tensor.name].images,
            "cosine": sums[tensor.name].cosine,
            "sqnr_db": sums[tensor.name].sqnr_db,
            "golden": min(len(golden), max(1, GOLDEN_BYTES // math.prod(tensor.shape))),
        }
        for tensor in tensors
    ]
    shown = images[list(golden)]
    trained = integer_pass.further_answers(rebuild(qat), shown)
    given = [(runner.codes(image[None]), runner.further_codes())[1] for image in shown]
    codes_of_file, codes_of_trained = [], []
    for row in rows:
        name = row["name"]
        for number in range(row["golden"]):
            value = trained[name][number : number + 1].transpose(row["axes"])
            codes_of_file.append(given[number][name].tobytes())
            codes_of_trained.append(grids[name].quantize(value).astype(np.int8).tobytes())
    return rows, b"".join(codes_of_file), b"".join(codes_of_trained)


def _float(student: Network, images: Pixels) -> Iterator[dict[str, Floats]]:
    """{name: value [1, ...]} of the float network for each image."""
    net = builders.restore(student)
    assert isinstance(net, torch.fx.GraphModule)
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        run = AllOutputs(net)
        with torch.inference_mode():
            run.run(builders.normalised(part, student.mean, student.std))
        for number in range(len(part)):
            yield {
                name: value[number : number + 1].float().numpy()
                for name, value in run.further.items()
            }


class _Sums:
    """What is summed over the images: signal, error, and the cosine of each image."""

    def __init__(self) -> None:
        self.images = 0
        self._signal = self._error = self._cosines = 0.0

    def add(self, real: Floats, found: Floats) -> None:
        """Count one image."""
        one, other = (part.reshape(-1).astype(np.float64) for part in (real, found))
        self.images += 1
        self._signal += float(one @ one)
        self._error += float(((one - other) ** 2).sum())
        norms = float(np.linalg.norm(one) * np.linalg.norm(other))
        self._cosines += float(one @ other) / max(norms, TINY)

    @property
    def cosine(self) -> float:
        """The mean over the images."""
        return self._cosines / max(self.images, 1)

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise, in decibels."""
        return float(10 * np.log10(max(self._signal, TINY) / max(self._error, TINY)))
