"""Which of a transformer's last tokens its classifier reads.

They are the class token, the mean of the patch tokens, or both in one vector. The choice is one of
the builder's options (key "head_features"), so that every stage builds the same network. The
authors of DINOv2 chose between the first and the last, too (Oquab et al. 2023, arXiv 2304.07193,
linear probing).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

# The key of the choice in a builder's options.
KEY = "head_features"
PARTS = ("class", "mean")
# What each choice reads, in this order.
CHOICES: dict[str, tuple[str, ...]] = {
    "class": ("class",),
    "mean": ("mean",),
    "class+mean": ("class", "mean"),
}
ALL = "class+mean"


def parts(tokens: Tensor, prefix: int) -> dict[str, Tensor]:
    """The class token, float32 [b, d], and the mean of the patch tokens, float32 [b, d].

    `tokens`: the last ones, normalised, [b, n, d]. `prefix`: how many of them are no patches; the
    class token is the first.
    """
    tokens = tokens.float()
    return {"class": tokens[:, 0], "mean": tokens[:, prefix:].mean(1)}


def read(known: Mapping[str, Tensor], choice: str) -> Tensor:
    """The features of a choice, of these parts: [b, d] or [b, 2 d]."""
    return torch.cat([known[part] for part in CHOICES[choice]], 1)


class TokenPool(nn.Module):
    """Pools tokens [b, n, d] to the parts of a choice side by side, [b, d] or [b, 2 d]."""

    def __init__(self, choice: str, prefix: int) -> None:
        super().__init__()
        self.choice, self.prefix = choice, prefix

    def forward(self, tokens: Tensor) -> Tensor:
        return read(parts(tokens, self.prefix), self.choice)


def possible(model: nn.Module) -> bool:
    """Whether a network of timm lets its classifier read these tokens.

    It needs a class token, a norm before the pooling, one linear layer as its classifier, and
    timm's place for a pooling layer, which is empty. Vision transformers and EVA have that.
    """
    return (
        getattr(model, "attn_pool", model) is None
        and isinstance(getattr(model, "cls_token", None), nn.Parameter)
        and isinstance(getattr(model, "fc_norm", None), nn.Identity)
        and isinstance(getattr(model, "head", None), nn.Linear)
    )


def own(model: nn.Module) -> str:
    """The choice that a network was built with."""
    return "class" if getattr(model, "global_pool", "") == "token" else "mean"


def apply(model: nn.Module, choice: str) -> None:
    """Let the classifier read the tokens of a choice; "" changes nothing. Its weights are new."""
    if not choice:
        return
    head, width = model.head, int(model.num_features)  # type: ignore[arg-type]
    assert isinstance(head, nn.Linear)
    model.attn_pool = TokenPool(choice, int(model.num_prefix_tokens))  # type: ignore[arg-type]
    model.pool_include_prefix = True  # type: ignore[assignment]
    model.head = nn.Linear(
        width * len(CHOICES[choice]), head.out_features, device=head.weight.device
    )
