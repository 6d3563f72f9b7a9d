"""The teacher's answers before training: cached ones, or those of a teacher that is asked live."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from edgekd.core.artifacts import Dataset, Json, Knowledge, Labels, Network
from edgekd.data import datasets
from edgekd.data.on_demand import PixelRows
from edgekd.networks.compute import Compute
from edgekd.networks.inference import ON_CPU
from edgekd.settings.recipe import ViewsConfig
from edgekd.training import views
from edgekd.training.cached_answers import CachedAnswers
from edgekd.training.oracle_settings import OracleSettings
from edgekd.training.teacher_oracle import Oracle


@dataclasses.dataclass(frozen=True)
class TeacherAnswers:
    """What is known of the teacher's answers before training.

    `said`: cached answers; None when the `oracle` is asked instead or there is no teacher.
    `train`: rows of the images that they are about and that training uses. `view` and `seed` drew
    the views, `first` is the first view of every image. `facts`: what the stage that made cached
    answers says of them.
    """

    said: CachedAnswers | None
    oracle: Oracle | None
    train: Tensor
    view: ViewsConfig
    seed: int
    first: views.Views
    facts: dict[str, Json]

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        knowledge: Knowledge | None,
        view: ViewsConfig,
        seed: int,
        *,
        teacher: Network | None = None,
        asking: OracleSettings | None = None,
        pixels: PixelRows | None = None,
        compute: Compute = ON_CPU,
    ) -> TeacherAnswers:
        """The answers of a build: cached ones (`knowledge`), or those of `teacher` itself.

        `asking`: how the teacher is asked during training (distil.answers "live" or "corrected"),
        in place of cached answers, about which `pixels`, and `compute` where. With neither, the
        student learns from the labels alone.
        """
        oracle = None
        if asking is not None and teacher is not None:
            # Building the teacher must not change the first weights of adapters, so that training
            # starts alike from cached and from live answers.
            with torch.random.fork_rng(devices=[]):
                shown = datasets.pixels(dataset) if pixels is None else pixels
                oracle = Oracle(teacher, shown, asking, compute)
        if knowledge is None:
            said, train = None, torch.from_numpy(datasets.taught(dataset))
        else:
            said, train = CachedAnswers(knowledge), torch.tensor(knowledge.rows)
        first = views.draw(view, seed, 0, datasets.identities(dataset), train)
        facts = {} if knowledge is None else knowledge.facts
        return cls(said, oracle, train, view, seed, first, facts)

    @property
    def logged(self) -> bool:
        """Whether the answers come from a log."""
        return self.facts.get("source") == "log"

    def example(self, mode: str) -> dict[str, Tensor]:
        """Answers about one image, by name. `mode`: the setting distil.answers."""
        if self.oracle is None:
            return {} if self.said is None else self.said.take(0, torch.zeros(1, dtype=torch.long))
        found = {
            name: value.cpu() for name, value in self.oracle.ask(self.train[:1], self.first).items()
        }
        # The corrector keeps no features.
        return {"logits": found["logits"]} if mode == "corrected" else found

    def signed(self, example: dict[str, Tensor]) -> bool:
        """Whether pooled features can be negative. `example`: as above.

        Of cached answers, those about the first view of all images are looked at.
        """
        parts = [example] if self.said is None else self.said.all(0)
        return any(bool((part["pooled"] < 0).any()) for part in parts if "pooled" in part)

    def first_labels(self, kind: Labels) -> Tensor:
        """The teacher's labels of the first view of each training image, in place of given ones."""
        if self.oracle is not None:
            logits = self.oracle.ask(self.train, self.first)["logits"].cpu()
        else:
            assert self.said is not None
            logits = torch.cat([part["logits"] for part in self.said.all(0)])
        return logits.float().argmax(1) if kind == "one" else (logits >= 0).long()
