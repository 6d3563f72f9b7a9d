"""A float network as ONNX: the graph of the int8 route, with the weights of the float network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from edgekd.core.artifacts import Network, QuantNetwork
from edgekd.export.onnx_graph import OnnxForm
from edgekd.export.onnx_writer import write_onnx
from edgekd.networks import builders
from edgekd.quantization import graphs, qat_network, recording
from edgekd.quantization.fitting_biases import FittingBiases
from edgekd.quantization.qat_network import QatNetwork
from edgekd.quantization.restoring import rebuild
from edgekd.tflite.int8_rules import Int8Rules, Range, input_fold, weight_codes

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
    prepared = _prepared(network, rules)
    return write_onnx(prepared, float_state(prepared), OnnxForm.UNROUNDED)


def rounded_onnx(
    network: Network, rules: Int8Rules, qat: QuantNetwork, images: npt.NDArray[np.uint8]
) -> bytes:
    """The same with the weights of its calibrated int8 network, on their int8 grid.

    `images`: calibration images as the int8 network takes them, uint8 [n, h, w, channels].
    Channels are evened out, and biases take off what the rounded weights add, so that these weights
    lose less in int8 than the network's own. Those of the first layer leave the grid a little,
    since the normalisation that was folded into them is taken out again.
    """
    prepared, calibrated = _prepared(network, rules), rebuild(qat)
    FittingBiases(calibrated, images).correct((), calibrated.edges.values())
    held = safetensors.numpy.load(bytes(qat.state))
    state = float_state(prepared)
    biases = {layer.name: layer.bias for layer in calibrated.layers}
    gain, offset = input_fold(network.mean, network.std)
    first = _first_layers(prepared)
    ranges = {row["edge"]: Range(row["scale"], row["zero_point"]) for row in qat.ranges}
    for edge in prepared.constants:
        name = f"{edge}.constant"
        state[name] = ranges[edge].dequantize(ranges[edge].quantize(held[name]))
    for layer in prepared.layers:
        weight, scale = (held[f"{layer.name}.{part}"] for part in ("weight", "scale"))
        fitting = graphs.getattr_path(calibrated.graph, biases[layer.name])
        bias = fitting.detach().numpy().astype(np.float64)
        column = np.broadcast_to(scale, (len(weight),)).reshape(-1, *[1] * (weight.ndim - 1))
        weight = weight_codes(weight, scale, axis=0) * column
        if layer.name in first:
            weight = weight / gain.reshape(1, -1, 1, 1)
            bias = bias - (weight * offset.reshape(1, -1, 1, 1)).sum((1, 2, 3))
        state[f"{layer.name}.weight"] = weight.astype(np.float32)
        state[f"{layer.name}.bias"] = bias.astype(np.float32)
    return write_onnx(prepared, state, OnnxForm.UNROUNDED)


def _prepared(network: Network, rules: Int8Rules) -> QatNetwork:
    """The network's graph as the int8 route has it, without its normalisation."""
    channels = len(network.mean)
    return qat_network.prepare(
        builders.restore(network),
        network.px,
        [UNFOLDED_MEAN] * channels,
        [UNFOLDED_STD] * channels,
        rules,
        recording.record,
    )


def _first_layers(network: QatNetwork) -> set[str]:
    """The layers that read the image, directly or behind a pad."""
    from_image = {"input"}
    for node in graphs.nodes_of(network.graph.graph):
        if "edge" in node.meta and network.writers[node.meta["edge"]] == "PAD":
            before = node.args[0].args[0].meta["edge"]
            from_image |= {str(node.meta["edge"])} if before in from_image else set()
    return {layer.name for layer in network.layers if layer.source in from_image}


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
