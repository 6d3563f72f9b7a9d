"""How large each loss's gradient is beside that of plain KD, at its default weight.

    python -m tools.measure_loss_sizes --teacher NAME@FILE --teacher-frozen

A student is trained by plain KD. At some epochs the gradient of every loss on the teacher's
features is taken with respect to all weights of the student, on one fixed batch, and its norm is
divided by that of KD. The adapters of the losses learn beside the student, which does not feel
them. A loss that is many times as large as KD decides alone where the student goes; one that is
far smaller changes nothing. Which sizes help, only students tell (`tools.compare_methods`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.networks import builders, timm_networks
from edgekd.networks.inference import ON_CPU
from edgekd.pipeline.jobs import Job, load
from edgekd.pipeline.runner import run
from edgekd.settings import loss_catalogue
from edgekd.settings.loss_catalogue import Term
from edgekd.training import loss_builder, views
from edgekd.training.batches import Batch
from edgekd.training.loss_modules import Seen, Setting
from edgekd.training.losses import logit_losses
from edgekd.training.oracle_settings import OracleSettings
from edgekd.training.teacher_oracle import Oracle
from tools.compare_methods import job, parser
from tools.compare_rows import PLAIN_KD

NAMES = tuple(
    name
    for name, method in loss_catalogue.METHODS.items()
    if set(method.needs) & {"pooled", "grid", "cams"} and name != "fair"
)
EPOCHS, AT = 16, (1, 4, 10, 16)  # of training, and the epochs at whose start sizes are taken
BATCH, FIXED = 32, 48  # images of a step, and of the batch on which sizes are taken
RATE, TEMPERATURE, ALPHA = 0.05, 2.0, 0.9  # the recipe's


class Trial:
    """A student, the teacher's answers about one view of each training image, and the losses."""

    def __init__(self, made: Job, dataset: Dataset, oracle: Oracle) -> None:
        spec, px = made.student, made.recipe.data.input_px
        torch.manual_seed(0)
        self.net, _ = timm_networks.pretrained(spec, "none", len(dataset.classes), spec.options)
        mean, std = builders.normalisation(spec, self.net)
        self.render = views.Renderer(datasets.pixels(dataset), px, mean, std)
        self.rows = torch.from_numpy(datasets.rows(dataset, "train"))
        self.labels = torch.from_numpy(datasets.labels(dataset))
        self.drawn = views.draw(
            made.recipe.views, 0, 0, datasets.identities(dataset), among=self.rows
        )
        asked = [oracle.ask(part, self.drawn) for part in self.rows.split(64)]
        self.said = {name: torch.cat([one[name].float() for one in asked]) for name in asked[0]}
        self.taps = builders.taps(spec, self.net)
        self.maps: dict[str, Tensor] = {}
        for name in self.taps:
            self.net.get_submodule(name).register_forward_hook(
                lambda _module, _given, made, name=name: self.maps.update({name: made})
            )
        self.net.get_classifier().register_forward_pre_hook(  # type: ignore[operator]
            lambda _module, given: self.maps.update(pooled=given[0])
        )
        self.losses = {name: self._loss(name, mean, std, dataset) for name in NAMES}

    def _loss(self, name: str, mean: list[float], std: list[float], of: Dataset) -> nn.Module:
        seen = self.see(torch.arange(2))
        shapes = {"pooled": seen.pooled.shape, "last": seen.last.shape}
        shapes |= {tap: value.shape for tap, value in seen.taps.items()}
        widths = {part: self.said[part].shape[1] for part in ("pooled", "grid")}
        signed = bool((self.said["pooled"] < 0).any())
        at = Setting(
            self.net, self.taps, shapes, len(of.classes), "one", 0, mean, std, widths, signed
        )
        method = loss_catalogue.METHODS[name]
        return loss_builder.build(Term(name, method.weight, None, method.defaults), at).train()

    def see(self, order: Tensor) -> Seen:
        """What the student shows of some training images."""
        shown = self.render.draw(self.render.gather(self.rows[order], self.drawn))
        last = self.net.forward_features(shown)  # type: ignore[operator]
        logits = self.net.forward_head(last)  # type: ignore[operator]
        return Seen(logits, self.maps["pooled"], last, {tap: self.maps[tap] for tap in self.taps})

    def kd(self, seen: Seen, order: Tensor) -> Tensor:
        """Plain KD and the labels, as in the recipe."""
        fit = nn.functional.cross_entropy(seen.logits, self.labels[self.rows[order]])
        said = self.said["logits"][order]
        follow = logit_losses.follow(seen.logits, said, TEMPERATURE, "one")
        return ALPHA * follow + (1 - ALPHA) * fit

    def value(self, name: str, seen: Seen, order: Tensor) -> Tensor:
        """A loss without its weight."""
        said = {part: value[order] for part, value in self.said.items()}
        batch = SimpleNamespace(rows=self.rows[order], **said)
        return cast(Tensor, self.losses[name](seen, cast(Batch, batch)))

    def sizes(self) -> Mapping[str, float]:
        """The norm of each loss's gradient at its default weight over that of KD."""
        order = torch.arange(min(FIXED, len(self.rows)))
        seen = self.see(order)
        base = self._norm(self.kd(seen, order))
        return {
            name: loss_catalogue.METHODS[name].weight
            * self._norm(self.value(name, seen, order))
            / base
            for name in NAMES
        }

    def _norm(self, loss: Tensor) -> float:
        parts = torch.autograd.grad(
            loss, list(self.net.parameters()), retain_graph=True, allow_unused=True
        )
        return float(torch.stack([part.norm() for part in parts if part is not None]).norm())

    def train(self) -> list[Mapping[str, float]]:
        """Train the student by KD. Returns the sizes at the start of each epoch of AT."""
        adapters = [p for loss in self.losses.values() for p in loss.parameters()]
        optimiser = torch.optim.SGD(self.net.parameters(), RATE, 0.9, 0, 5e-4, nesterov=True)
        beside = torch.optim.SGD(adapters, RATE, 0.9, nesterov=True)
        steps = len(self.rows) // BATCH
        rate = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, RATE, total_steps=EPOCHS * steps, pct_start=0.1
        )
        found = []
        self.net.train()
        for epoch in range(EPOCHS + 1):
            if epoch in AT:
                found.append(self.sizes())
                print(epoch, {name: round(size, 3) for name, size in found[-1].items()}, flush=True)
            for order in torch.randperm(len(self.rows)).split(BATCH) if epoch < EPOCHS else ():
                if len(order) == BATCH:
                    self._step(order, optimiser, beside, adapters)
                    rate.step()
        return found

    def _step(
        self,
        order: Tensor,
        optimiser: torch.optim.Optimizer,
        beside: torch.optim.Optimizer,
        adapters: list[nn.Parameter],
    ) -> None:
        seen = self.see(order)
        optimiser.zero_grad()
        self.kd(seen, order).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        still = dataclasses.replace(
            seen,
            logits=seen.logits.detach(),
            pooled=seen.pooled.detach(),
            last=seen.last.detach(),
            taps={tap: value.detach() for tap, value in seen.taps.items()},
        )
        learning = [name for name, loss in self.losses.items() if list(loss.parameters())]
        beside.zero_grad()
        torch.stack([self.value(name, still, order) for name in learning]).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(adapters, 1.0)
        beside.step()


def main() -> None:
    arguments = parser().parse_args()
    arguments.data = (arguments.data or ["fashion-mnist"])[0]
    made = job(arguments, PLAIN_KD, 0)
    store = Store(arguments.out, None)
    with store.lock():
        done = run(made, store, "teacher")
    dataset, teacher = load(done, "data"), load(done, "teacher")
    assert made.teacher is not None
    asking = OracleSettings("float32", made.teacher, grid_side=2, cam_side=2)
    found = Trial(made, dataset, Oracle(teacher, datasets.pixels(dataset), asking, ON_CPU)).train()
    print(f"\n| | weight | {' | '.join(f'epoch {epoch}' for epoch in AT)} |")
    print("|---|---|" + "---|" * len(AT))
    for name in NAMES:
        sizes = " | ".join(f"{row[name]:.2f}" for row in found)
        print(f"| `{name}` | {loss_catalogue.METHODS[name].weight:g} | {sizes} |")


if __name__ == "__main__":
    main()
