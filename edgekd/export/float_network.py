"""A float network as ONNX: the graph of the int8 route, with the weights of the float network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Network
from edgekd.export.onnx_graph import OnnxForm
from edgekd.export.onnx_writer import write_onnx
from edgekd.networks import builders
from edgekd.quantization import graphs, qat_network, recording
from edgekd.quantization.qat_network import QatNetwork
from edgekd.tflite.int8_rules import Int8Rules

# With these, the code of a pixel is the network's own input, and nothing is folded into the first
# layer (`int8_rules.input_fold`): 1 / (255 * std) is exactly 1.
UNFOLDED_MEAN, UNFOLDED_STD = 0.0, 1.0 / 255.0


def float_onnx(network: Network, rules: Int8Rules) -> bytes:
    """The network as ONNX, batch 1, NCHW. Equal arguments give equal bytes.

    Its input is float32 (pixel / 255 - mean) / std, with the network's own mean and std for each
    channel. Batch norms are folded. `rules`: what of them changes the graph, the pooling and a
    SOFTMAX at the end, is as in the int8 file.

    Raises UnsupportedNetwork for a network that the int8 route refuses.
    """
    channels = len(network.mean)
    prepared = qat_network.prepare(
        builders.restore(network),
        network.px,
        [UNFOLDED_MEAN] * channels,
        [UNFOLDED_STD] * channels,
        rules,
        recording.record,
    )
    return write_onnx(prepared, float_state(prepared), OnnxForm.UNROUNDED)


def float_state(network: QatNetwork) -> dict[str, npt.NDArray[np.float32]]:
    """The weights, biases and constant operands of a network that was only prepared, under the
    names of `Finished.state`.
    """
    places = {f"{edge}.constant": path for edge, path in network.constants.items()}
    for layer in network.layers:
        places |= {f"{layer.name}.weight": layer.weight, f"{layer.name}.bias": layer.bias}
    return {
        name: graphs.getattr_path(network.graph, path).detach().cpu().float().numpy()
        for name, path in places.items()
    }
