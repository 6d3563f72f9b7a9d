"""Operators in other spellings, of networks and of exporters, become those that have a rule."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.core.errors import EdgeKDError
from edgekd.networks.foreign import loader
from edgekd.networks.foreign.model import Asked
from edgekd.quantization import foreign_graph
from edgekd.quantization.qat_network import prepare

PX, MEAN, STD = 8, [128 / 255] * 3, [0.5] * 3
Body = Callable[["Around", Tensor], Tensor]


class Around(nn.Module):
    """A function of a map of 6 channels between a convolution and a pooled classifier."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 2, 2), nn.Linear(6, 3)
        self.gain, self.offset = (nn.Parameter(torch.rand(6, 1, 1) + 0.5) for _ in range(2))
        self.norm, self.group = nn.LayerNorm(6), nn.GroupNorm(2, 6)
        self.slope, self.mha = nn.PReLU(6), nn.MultiheadAttention(6, 2, batch_first=True)
        self.up, self.line = nn.ConvTranspose2d(6, 6, 4, 2, 1), nn.Conv1d(1, 1, 3, padding=1)
        self.body = body
        for norm in (self.norm, self.group):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        found = self.body(self, self.conv(x))
        return self.head(found.mean((2, 3)) if found.ndim == 4 else found)


def gelu_with_tanh(_net: Around, x: Tensor) -> Tensor:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3))
    return 0.5 * x * (1 + torch.tanh(inner))


def norm_by_hand(net: Around, x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-6) * net.gain + net.offset


def response_norm(net: Around, x: Tensor) -> Tensor:
    size = x.norm(p=2, dim=(2, 3), keepdim=True)
    return x + net.gain * (x * (size / (size.mean(1, keepdim=True) + 1e-6))) + net.offset


def tokens(net: Around, x: Tensor) -> Tensor:
    given = x.flatten(2).transpose(1, 2)
    return (given + net.mha(given, given, given, need_weights=False)[0]).mean(1)


def einsum(_net: Around, x: Tensor) -> Tensor:
    rows = x.flatten(2)
    return torch.einsum("ncp,nkp->nck", rows, rows).mean(2) * 0.1


# name -> (the network's function, the operators that the graph then has). The convolution before it
# and the mean and the linear layer behind it are not counted.
SPELLINGS: dict[str, tuple[Body, dict[str, int]]] = {
    "gelu": (
        lambda _net, x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
        {"GELU": 1},
    ),
    "gelu with tanh": (gelu_with_tanh, {"GELU": 1}),
    "hard-swish": (lambda _net, x: x * F.relu6(x + 3) / 6, {"HARD_SWISH": 1}),
    "prelu": (lambda net, x: net.slope(x), {"PRELU": 1}),
    "layer norm": (
        lambda net, x: net.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        {"MEAN": 1, "SUB": 1, "L2_NORMALIZATION": 1},
    ),
    "layer norm by hand": (norm_by_hand, {"MEAN": 1, "SUB": 1, "L2_NORMALIZATION": 1}),
    "group norm": (
        lambda net, x: net.group(x),
        {"MEAN": 2, "SUB": 1, "MUL": 2, "RSQRT": 1},
    ),
    "response norm": (
        response_norm,
        {"MUL": 5, "MEAN": 2, "RSQRT": 2, "DEPTHWISE_CONV_2D": 1},
    ),
    "unit vectors": (lambda _net, x: F.normalize(x, dim=1), {"L2_NORMALIZATION": 1}),
    "attention": (
        tokens,
        {"BATCH_MATMUL": 2, "SOFTMAX": 1, "FULLY_CONNECTED": 2, "ADD": 1, "MEAN": 1, "SLICE": 3},
    ),
    "products over an index": (einsum, {"BATCH_MATMUL": 1, "MEAN": 1}),
    "transposed convolution": (lambda net, x: net.up(x), {"TRANSPOSE_CONV": 1}),
    "gated": (lambda _net, x: F.glu(torch.cat([x, x], 1), 1), {"LOGISTIC": 1, "MUL": 1}),
    "one axis": (
        lambda net, x: net.line(x.mean((2, 3)).unsqueeze(1)).squeeze(1),
        {"CONV_2D": 1, "MEAN": 1},
    ),
    "pixel shuffle": (lambda _net, x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2), {}),
    "adaptive max pool": (lambda _net, x: F.adaptive_max_pool2d(x, 2), {"MAX_POOL_2D": 1}),
}
# Operators that move codes, of which there may be any number.
VIEWS = {"RESHAPE", "TRANSPOSE", "CONCATENATION", "INPUT", "CONSTANT"}


def around(name: str) -> Around:
    torch.manual_seed(0)
    return Around(SPELLINGS[name][0]).eval()


def check(name: str, model: nn.Module, expected: Tensor, images: Tensor) -> None:
    network = prepare(model, PX, MEAN, STD)
    with torch.inference_mode():
        found = network.graph(network.on_grid(images))
    assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()
    counts = Counter(network.writers.values())
    kept = Counter({op: count for op, count in counts.items() if op not in VIEWS})
    extra = Counter({"CONV_2D": 1, "FULLY_CONNECTED": 1})
    extra["MEAN"] += SPELLINGS[name][0] not in (tokens, einsum) and name != "one axis"
    wanted = Counter(SPELLINGS[name][1]) + extra
    assert {op: kept[op] for op in wanted} == dict(wanted)


def pixels() -> Tensor:
    stream = torch.Generator().manual_seed(1)
    whole = torch.randint(0, 256, (3, 3, PX, PX), generator=stream) / 255
    return (whole - MEAN[0]) / STD[0]


@pytest.mark.parametrize("name", SPELLINGS)
def test_in_a_module(name: str) -> None:
    images, model = pixels(), around(name)
    with torch.inference_mode():
        expected = model(images)
    check(name, model, expected, images)


@pytest.mark.filterwarnings("ignore")  # of the importer, about its own code
@pytest.mark.parametrize("name", SPELLINGS)
def test_in_an_onnx_file(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx2pytorch")
    images, model, file = pixels(), around(name), tmp_path / "model.onnx"
    torch.onnx.export(model, (images[:1],), str(file), opset_version=17, dynamo=False)
    with torch.inference_mode():
        expected = model(images)
    module = loader.load(str(file), Asked()).module
    check(name, foreign_graph.recorded(module, images), expected, images)


def test_a_program_for_a_fixed_number_of_images_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(around("attention"), (pixels()[:2],))
    torch.export.save(program, tmp_path / "model.pt2")
    with pytest.raises(EdgeKDError, match="made for 2 images at once") as caught:
        loader.load(str(tmp_path / "model.pt2"), Asked())
    assert "dynamic_shapes=({0: torch.export.Dim('n')},)" in caught.value.next_step
