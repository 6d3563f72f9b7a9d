"""A teacher that answers about views of images, for the cache and during training.

On the CPU, cached and live answers are equal bit for bit. Answers are float16 for that reason, and
images go through the network in blocks of one size: libraries choose their kernels by the size of a
batch, and kernels round differently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Json, Network
from edgekd.core.errors import RecipeError
from edgekd.data.on_demand import PixelRows
from edgekd.networks import builders, token_pooling, watching
from edgekd.networks.compute import Compute, autocast, moved
from edgekd.networks.inference import ON_CPU, classify, precision
from edgekd.training import answer_keys, threads, views
from edgekd.training.adapters import resize_map, tokens_to_map
from edgekd.training.losses import explanation_losses
from edgekd.training.oracle_settings import OracleSettings

# Images in a forward pass. It is the student's default batch, so that live blocks need no filling.
BLOCK = 32
# On a GPU, where a block of 32 would not occupy it. Answers there are equal up to rounding.
GPU_BLOCK = 256
Answers = dict[str, Tensor]


class Backbone:
    """A network without its head, and the features that it gives for seeded views of one data set.

    `render`: of the views, on the network's device.

    `tap`: the module whose map is its "grid", of `grid_side` cells a side; "" for none. `tokens`:
    whether it gives the "class" token and the "mean" of the patch tokens in place of "pooled", so
    that a head of either or of both costs no pass of its own.
    """

    def __init__(
        self,
        net: nn.Module,
        render: views.Renderer,
        dtype: torch.dtype,
        tap: str = "",
        grid_side: int = 0,
        tokens: bool = False,
    ) -> None:
        self.net, self.render, self.dtype = net, render, dtype
        self.tap, self.grid_side, self.tokens = tap, grid_side, tokens
        self.prefix = getattr(net, "num_prefix_tokens", 0)
        self.block = BLOCK if render.device.type == "cpu" else GPU_BLOCK

    def ask(self, rows: Tensor, drawn: views.Views) -> Answers:
        """The features of a view of images `rows`, int64 [b]: "pooled" and "grid", float16.

        With `tokens` there are "class" and "mean" in place of "pooled".
        """

        def features(block: Tensor) -> Answers:
            last, found = self.look(block, drawn)
            if self.tokens:
                del found["pooled"]
                found |= token_pooling.parts(last, self.prefix)
            return {name: value.half() for name, value in found.items()}

        return in_blocks(features, rows, self.block)

    @torch.inference_mode()
    def look(self, rows: Tensor, drawn: views.Views) -> tuple[Tensor, Answers]:
        """The last features of a view of some images, and "pooled" and "grid", all in float32."""
        images = self.render.views(rows, drawn)
        with (
            watching.watch(self.net, [self.tap] if self.tap else []) as seen,
            autocast(self.dtype, images.device),
        ):
            last = self.net.forward_features(images)  # type: ignore[operator]
            pooled = self.net.forward_head(last, pre_logits=True)  # type: ignore[operator]
        found = {"pooled": pooled.float()}
        if self.tap:
            found["grid"] = resize_map(
                tokens_to_map(seen[self.tap].float(), self.prefix), self.grid_side
            )
        return last.float(), found

    def what(self, dataset: Dataset, head: nn.Module | None) -> Json:
        """What decides the features of an image besides the image and its view, as JSON.

        `head`: the part of the network that does not count, if there is one.
        """
        found = {
            "weights": _digest(self.net, head),
            "px": self.render.px,
            "mean": self.render.mean.flatten().tolist(),
            "std": self.render.std.flatten().tolist(),
            "dtype": str(self.dtype),
            "grid": [self.tap, self.grid_side],
            "pixels": answer_keys.of_pixels(dataset),
        }
        return {**found, "tokens": True} if self.tokens else found


class Oracle:
    """A teacher that answers about seeded views of one data set, `pixels` [n, c, h, w].

    Answers are float16: "logits" [b, k] and, unless the teacher is a finished network of the
    user's, "pooled" [b, d]. With `grid_side` there is "grid" [b, d, side, side] (the map of the
    last tap), and with `cam_side` "cams" [b, k, side, side] (class activation maps). The logits of
    a frozen teacher are computed from pooled features in float16, so that cached features give the
    same.

    Raises RecipeError when class activation maps are asked for and the classifier is not one linear
    layer on the last map.
    """

    def __init__(
        self,
        teacher: Network,
        pixels: PixelRows,
        settings: OracleSettings,
        compute: Compute = ON_CPU,
    ) -> None:
        self.net = compute.place(builders.restore(teacher))
        tap = builders.taps(settings.model, self.net)[-1] if settings.grid_side else ""
        render = views.Renderer(pixels, teacher.px, teacher.mean, teacher.std, compute.device)
        dtype = precision(settings.precision, self.net, compute)
        self.head_features = str(teacher.options.get(token_pooling.KEY, ""))
        self.frozen = teacher.facts.get("mode") == "frozen"
        tokens = self.frozen and bool(self.head_features)
        self.backbone = Backbone(self.net, render, dtype, tap, settings.grid_side, tokens)
        self.cam_side = settings.cam_side

    def ask(self, rows: Tensor, drawn: views.Views) -> Answers:
        """Answers about the given view of images `rows`, int64 [b].

        They are computed in blocks; on the CPU the last one is filled with copies.
        """
        return in_blocks(lambda block: self._block(block, drawn), rows, self.backbone.block)

    def what(self, dataset: Dataset) -> Json:
        """What decides an answer about an image besides the image and its view, as JSON."""
        decides = self.backbone.what(dataset, None)
        if self.head_features:
            decides = {**decides, token_pooling.KEY: self.head_features}
        return {**decides, "cams": self.cam_side, "frozen": self.frozen}

    @torch.inference_mode()
    def head(self, pooled: Tensor) -> Tensor:
        """The logits of a frozen teacher from its pooled features [b, d]; both are float16."""
        classifier = self.net.get_classifier()  # type: ignore[operator]

        def logits(block: Tensor) -> Answers:
            return {"logits": classifier(block.float()).half()}

        on_device = moved(pooled, self.backbone.render.device)
        return in_blocks(logits, on_device, self.backbone.block)["logits"]

    @property
    def logits_alone(self) -> bool:
        """Whether the teacher has no features that it could show: a recorded graph, or ONNX."""
        return not hasattr(self.net, "forward_features")

    @torch.inference_mode()
    def _block(self, rows: Tensor, drawn: views.Views) -> Answers:
        if self.logits_alone:
            images = self.backbone.render.views(rows, drawn)
            with autocast(self.backbone.dtype, images.device):
                return {"logits": self.net(images).half()}
        last, answers = self.backbone.look(rows, drawn)
        pooled = answers["pooled"]
        if self.frozen:
            pooled = pooled.half().float()
        # The classifier runs in float32: bfloat16 would round its logits to 3 digits.
        answers = {"logits": classify(self.net, last, pooled), **answers}
        if self.cam_side:
            answers["cams"] = resize_map(
                self._cams(watching.channels_first(self.net, last)), self.cam_side
            )
        return {name: value.half() for name, value in answers.items()}

    def _cams(self, last: Tensor) -> Tensor:
        """Class activation maps [b, k, h, w] of the last features."""
        head = self.net.get_classifier()  # type: ignore[operator]
        norm = getattr(self.net, "fc_norm", None)
        if norm is not None and last.ndim == 3:
            last = norm(last)
        features = tokens_to_map(last, self.backbone.prefix)
        width = features.shape[1] * len(token_pooling.CHOICES.get(self.head_features, ("pooled",)))
        if not isinstance(head, nn.Linear) or width != head.in_features:
            raise RecipeError(
                f"{type(self.net).__name__} has no class activation maps: its classifier is not "
                "one linear layer on its last map",
                "leave distil.losses.cat and e2kd out, or name another teacher",
            )
        # Of a head on class token and patches, the last columns are those of the patches.
        return explanation_losses.cams(features, head.weight[:, -features.shape[1] :])


def in_blocks(ask: Callable[[Tensor], Answers], rows: Tensor, size: int) -> Answers:
    """`ask` of all rows [b, ...], in blocks of `size`.

    On a CPU the last block is filled by copies, and several threads ask about a block each.
    """
    on_gpu = size == GPU_BLOCK

    def answered(block: Tensor) -> Answers:
        short = 0 if on_gpu else size - len(block)
        filled = torch.cat([block, block[-1:].expand(short, *block.shape[1:])])
        return {name: value[: len(block)] for name, value in ask(filled).items()}

    blocks = rows.split(size)
    found = [*map(answered, blocks)] if on_gpu else threads.in_order(answered, blocks)
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


def _digest(net: nn.Module, without: nn.Module | None) -> str:
    """Hex sha256 of a network's weights and buffers, except those of one of its modules."""
    left_out = set() if without is None else {id(value) for value in without.parameters()}
    # A recorded graph has its own code.
    digest = hashlib.sha256(f"{type(net).__name__}{getattr(net, 'code', '')}".encode())
    for name, value in sorted(net.state_dict(keep_vars=True).items()):
        if id(value) not in left_out:
            array = value.detach().cpu().contiguous()
            digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
            digest.update(array.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
