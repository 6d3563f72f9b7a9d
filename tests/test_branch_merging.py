"""Branches that are made to be merged are one convolution; other sums stay as they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgekd.quantization import foreign_graph
from edgekd.quantization.graphs import nodes_of


class Branches(nn.Module):
    """The sum of branches that read one map, behind a stem and before a head.

    `own`: the map itself is added, too. `final`: a batch norm of the sum.
    """

    def __init__(self, *branches: nn.Module, own: bool = False, final: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.branches, self.own = nn.ModuleList(branches), own
        self.final = nn.BatchNorm2d(8) if final else nn.Identity()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        total = x if self.own else torch.zeros(())
        for number, branch in enumerate(self.branches):
            total = branch(x) if number == 0 and not self.own else total + branch(x)
        return self.head(torch.relu(self.final(total)).mean((2, 3)))


class Mixer(nn.Module):
    """FastViT's mixer: x + scale * (branches(x) - norm(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.mixed, self.scaled, self.norm = conv(3, 8), conv(1, 8), nn.BatchNorm2d(8)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.scale * (self.mixed(x) + self.scaled(x) - self.norm(x))
        return self.head(x.mean((2, 3)))


class TwoHeads(nn.Module):
    """RepViT's head in eval form: the mean of two linear layers behind batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.one, self.other = (nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 3)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).mean((2, 3))
        return (self.one(x) + self.other(x)) / 2


def conv(
    kernel: int | tuple[int, int], groups: int = 1, stride: int = 1, dilation: int = 1
) -> nn.Module:
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = tuple(side // 2 * dilation for side in sides)
    layer = nn.Conv2d(8, 8, sides, stride, padding, dilation, groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(8))


def recorded(net: nn.Module) -> tuple[float, list[str]]:
    """The largest difference of the graph's answers, relative to the largest, and its operators."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    net.eval()
    images = torch.randn(2, 3, 20, 20)
    graph = foreign_graph.recorded(net, images)
    with torch.inference_mode():
        wanted, found = net(images), graph(images)
    error = float((found - wanted).abs().max() / wanted.abs().max())
    calls = [node for node in nodes_of(graph.graph) if node.op == "call_function"]
    ops = [str(node.target).split(".")[1] for node in calls]
    return error, ops


MERGED = {
    "RepVGG": Branches(conv(3), conv(1), nn.BatchNorm2d(8)),
    "RepVGG, with a stride": Branches(conv(3, stride=2), conv(1, stride=2)),
    "MobileOne": Branches(conv(3, 8), conv(3, 8), conv(3, 8), conv(1, 8), nn.BatchNorm2d(8)),
    "RepViT": Branches(conv(3, 8), nn.Conv2d(8, 8, 1, groups=8), own=True, final=True),
    "a large kernel": Branches(conv(7, 4), conv(3, 4)),
    "dilated": Branches(conv(3, dilation=2), conv(1)),
    "FastViT": Mixer(),
}
APART = {
    "a residual": Branches(conv(3), own=True),
    "other groups": Branches(conv(3, 8), conv(1)),
    "other dilations": Branches(conv(3), conv(3, dilation=2)),
    "two strips": Branches(conv((1, 7)), conv((7, 1))),
}


@pytest.mark.parametrize("name", MERGED)
def test_branches_become_one_convolution(name: str) -> None:
    error, ops = recorded(MERGED[name])
    assert error < 1e-5
    assert ops.count("conv2d") == 2  # the stem's, and theirs
    assert not {"add", "sub", "mul"} & set(ops)


def test_two_heads_become_one_linear_layer() -> None:
    error, ops = recorded(TwoHeads())
    assert error < 1e-5
    assert ops.count("linear") == 1
    assert not {"add", "batch_norm"} & set(ops)


@pytest.mark.parametrize("name", APART)
def test_other_sums_stay(name: str) -> None:
    error, ops = recorded(APART[name])
    assert error < 1e-5
    assert ops.count("conv2d") == 1 + len(APART[name].branches)
    assert "add" in ops
