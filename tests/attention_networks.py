"""Small networks with the operators of today's mobile networks: attention, norms, resizing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PX = 16


class Stem(nn.Module):
    """A convolution before the part that a network is about, and a pooled classifier behind it."""

    def __init__(self, channels: int = 8, out: int = 8) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, channels, 2, 2), nn.Linear(out, 3)
        with torch.no_grad():
            self.conv.weight.mul_(3)

    def part(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.part(self.conv(x)).mean((2, 3)))


class Activations(Stem):
    """GELU in both forms, LeakyReLU, PReLU and ELU, each behind a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.acts = nn.ModuleList(
            [nn.GELU(), nn.GELU("tanh"), nn.LeakyReLU(0.2), nn.PReLU(8), nn.ELU()]
        )
        self.points = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in self.acts)

    def part(self, x: Tensor) -> Tensor:
        for act, point in zip(self.acts, self.points, strict=True):
            x = act(point(x) * 2)
        return x


class Norms(Stem):
    """Group norms with one and with two groups, a layer norm of a map, and an RMS norm.

    The gain of the first is folded into a convolution; the last has a layer of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.layer = nn.GroupNorm(1, 8), nn.GroupNorm(2, 8), nn.LayerNorm(8)
        self.rms, self.point = nn.RMSNorm(8), nn.Conv2d(8, 8, 1)
        for norm in (self.one, self.two, self.layer, self.rms):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
        for norm in (self.one, self.two, self.layer):
            nn.init.normal_(norm.bias)

    def part(self, x: Tensor) -> Tensor:
        x = self.point(self.one(x))
        x = self.layer(F.relu(self.two(x)).permute(0, 2, 3, 1))
        return F.relu(self.rms(x)).permute(0, 3, 1, 2)


class ResponseNorm(Stem):
    """Global response normalization, as in ConvNeXt V2."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.beta = (nn.Parameter(torch.randn(1, 8, 1, 1)) for _ in range(2))
        self.point = nn.Conv2d(8, 8, 1)

    def part(self, x: Tensor) -> Tensor:
        x = F.gelu(x)
        norm = x.norm(p=2, dim=(2, 3), keepdim=True)
        share = norm / (norm.mean(dim=1, keepdim=True) + 1e-6)
        return self.point(x + torch.addcmul(self.beta, self.gamma, x * share))


class Attention(Stem):
    """Multi-head attention over tokens with a class token, position embeddings and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position, self.bias = (
            nn.Parameter(torch.randn(1, 65, 8)),
            nn.Parameter(torch.randn(1, 2, 65, 65)),
        )
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)

    def part(self, x: Tensor) -> Tensor:
        count = x.shape[0]
        tokens = torch.cat([self.token.expand(count, -1, -1), x.flatten(2).transpose(1, 2)], 1)
        tokens = tokens + self.position
        parts = self.qkv(self.norm(tokens)).reshape(count, 65, 3, 2, 4).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias)
        tokens = tokens + self.out(mixed.transpose(1, 2).reshape(count, 65, 8))
        return tokens[:, 0].reshape(count, 8, 1, 1) * 0.5


class Windows(Stem):
    """Attention in shifted windows with a mask, scores that are scaled, and a strided slice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(8), nn.Linear(8, 24)
        mask = torch.zeros(4, 16, 16)
        mask[1::2, :8, 8:] = -100.0
        self.register_buffer("mask", mask)

    def part(self, x: Tensor) -> Tensor:
        count = x.shape[0]
        x = self.norm(x.permute(0, 2, 3, 1)).roll((-2, -2), (1, 2))
        x = x.view(count, 2, 4, 2, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 8)
        query, key, value = self.qkv(x).chunk(3, -1)
        scores = (query * 0.3) @ key.transpose(-2, -1)
        scores = scores.view(count, 4, 16, 16) + self.mask.unsqueeze(0)
        x = scores.view(-1, 16, 16).softmax(-1) @ value
        x = x.view(count, 2, 2, 4, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(count, 8, 8, 8)
        return x[:, ::2, 1::2].permute(0, 3, 1, 2)


class LinearAttention(Stem):
    """Attention without a softmax, which divides by a sum, and attention over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Conv2d(8, 24, 1)
        self.temperature = nn.Parameter(torch.rand(2, 1, 1) + 0.5)

    def part(self, x: Tensor) -> Tensor:
        count = x.shape[0]
        parts = self.point(x).reshape(count, 3, 2, 4, 64)
        query, key, value = (part.transpose(-1, -2) for part in parts.unbind(1))
        query, key, value = query.relu(), key.relu(), F.pad(value, (0, 1), value=1.0)
        total = query @ (key.transpose(-1, -2) @ value)
        mixed = total[..., :-1] / (total[..., -1:] + 1e-5)
        one, other = (F.normalize(part.transpose(-1, -2), dim=-1) for part in (query, mixed))
        shares = (one @ other.transpose(-2, -1) * self.temperature).softmax(-1)
        return (mixed @ shares.transpose(-1, -2)).transpose(-1, -2).reshape(count, 8, 8, 8)


class Resized(Stem):
    """Resizing in three forms, pooling to a size that does not divide the map, and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.point = nn.AdaptiveAvgPool2d(3), nn.Conv2d(8, 8, 1)

    def part(self, x: Tensor) -> Tensor:
        x = F.interpolate(self.pool(x), scale_factor=2)
        x = F.interpolate(x, size=(8, 8), mode="bilinear")
        x = F.interpolate(x - x.sum((2, 3), keepdim=True) * 0.01, size=12, mode="bilinear")
        return F.interpolate(self.point(x), size=9, mode="bilinear", align_corners=True)


class Transposed(Stem):
    """Transposed convolutions: as TFLite's SAME, without a border, and with one that is cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.same, self.whole = nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.ConvTranspose2d(6, 5, 2, 3)
        self.cut, self.norm = nn.ConvTranspose2d(5, 8, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(8)
        nn.init.uniform_(self.norm.running_mean, -0.2, 0.2)
        nn.init.uniform_(self.norm.running_var, 0.01, 0.05)
        with torch.no_grad():
            for layer in (self.same, self.whole, self.cut):
                layer.weight.mul_(3)

    def part(self, x: Tensor) -> Tensor:
        x = self.whole(F.relu(self.same(F.avg_pool2d(x, 4))))
        return F.relu(self.norm(self.cut(x)))


NETWORKS: dict[str, type[Stem]] = {
    cls.__name__: cls
    for cls in (
        Activations,
        Norms,
        ResponseNorm,
        Attention,
        Windows,
        LinearAttention,
        Resized,
        Transposed,
    )
}
