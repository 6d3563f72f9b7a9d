"""The optimisers of training: torch's own on the CPU, and the same on a GPU without waiting for it.

On a GPU every number that changes from step to step is a tensor there. A captured step can then be
replayed with another learning rate, and the CPU reads nothing back. The state has the form of
torch's optimisers, so that a checkpoint of one device goes on on another.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgekd.training.fit_plan import FitPlan

# Nesterov momentum. With batches of 32 it averages over about 300 images.
MOMENTUM = 0.9
# The key of a group of parameters for the factor of their learning rate. A checkpoint of an earlier
# version has none.
FACTOR = "factor"
# Added to the norm under which gradients are divided, as torch.nn.utils.clip_grad_norm_ does.
TINY = 1e-6


class RatedOptimiser(Protocol):
    """An optimiser whose learning rate is in a tensor on the device of its parameters."""

    def prepare(self, rate: float) -> None:
        """Set the learning rate of the next step, on the CPU and without waiting."""

    def update(self) -> None:
        """Change the parameters by their gradients. Reads nothing on the CPU."""

    def tensors(self) -> list[Tensor]:
        """All that `update` changes: parameters that have a gradient, and their state."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def _groups(module: nn.Module, plan: FitPlan) -> list[dict[str, Any]]:
    """The parameters that are trained, by the factor of their rate.

    Only matrices and filters decay. Decay of biases and of norms' scales does not help (Goyal et
    al. 2017, arXiv 1706.02677).
    """
    parts: dict[float, list[Tensor]] = {1.0: []}  # there are two groups where nothing has a factor
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parts.setdefault(plan.factors.get(name, 1.0), []).append(parameter)
    return [
        group
        for factor, parameters in parts.items()
        for group in (
            {
                "params": [p for p in parameters if p.ndim > 1],
                "weight_decay": plan.weight_decay,
                FACTOR: factor,
            },
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, FACTOR: factor},
        )
    ]


def optimiser(module: nn.Module, plan: FitPlan) -> torch.optim.Optimizer:
    """The optimiser of a plan, for the CPU."""
    groups = _groups(module, plan)
    if plan.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=plan.lr)
    return torch.optim.SGD(groups, lr=plan.lr, momentum=MOMENTUM, nesterov=True)


def rated(module: nn.Module, plan: FitPlan, device: torch.device) -> RatedOptimiser:
    """The optimiser of a plan, for a GPU. Its numbers are those of `optimiser`, up to rounding."""
    groups = _groups(module, plan)
    if plan.optimiser == "adamw":
        return _RatedAdamW(groups, plan.lr, device)
    return _RatedSGD(groups, plan.lr, device)


def clip(gradients: list[Tensor], limit: float) -> Tensor:
    """Scale gradients in place so that their joint norm is at most `limit`; returns the norm.

    torch.nn.utils.clip_grad_norm_ does the same, but could not be captured on a GPU.
    """
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (limit / (norm + TINY)).clamp(max=1.0))
    return norm


def _with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of a group that have a gradient, and the gradients."""
    parameters = [p for p in group["params"] if p.grad is not None]
    return parameters, [p.grad for p in parameters]


class _RatedSGD(torch.optim.SGD):
    """torch.optim.SGD with Nesterov momentum."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, device: torch.device) -> None:
        super().__init__(groups, lr=lr, momentum=MOMENTUM, nesterov=True)
        self.rates = [torch.zeros((), device=device) for _ in groups]

    def prepare(self, rate: float) -> None:
        for own, group in zip(self.rates, self.param_groups, strict=True):
            own.fill_(rate * group.get(FACTOR, 1.0))

    def _momenta(self, parameters: list[Tensor]) -> list[Tensor]:
        for parameter in parameters:
            if self.state[parameter].get("momentum_buffer") is None:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return [self.state[parameter]["momentum_buffer"] for parameter in parameters]

    @torch.no_grad()
    def update(self) -> None:
        for rate, group in zip(self.rates, self.param_groups, strict=True):
            parameters, gradients = _with_gradients(group)
            if not parameters:
                continue
            decayed = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
            momenta = self._momenta(parameters)
            torch._foreach_mul_(momenta, MOMENTUM)
            torch._foreach_add_(momenta, decayed)
            change = torch._foreach_add(decayed, momenta, alpha=MOMENTUM)
            torch._foreach_mul_(change, rate)
            torch._foreach_sub_(parameters, change)

    def tensors(self) -> list[Tensor]:
        parameters = [p for group in self.param_groups for p in _with_gradients(group)[0]]
        return [*parameters, *self._momenta(parameters)]


class _RatedAdamW(torch.optim.AdamW):
    """torch.optim.AdamW with its default betas and epsilon."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, device: torch.device) -> None:
        super().__init__(groups, lr=lr)
        self.betas: tuple[float, float] = self.defaults["betas"]
        self.epsilon: float = self.defaults["eps"]
        # The rate of each group over the first moment's correction, and one over the root of the
        # second's.
        self.rates = [torch.zeros((), device=device) for _ in groups]
        self.root = torch.zeros((), device=device)
        # What decay leaves of the parameters of each group.
        self.left = [torch.ones((), device=device) for _ in groups]
        self.count = 0  # of steps; torch keeps one for each parameter

    def prepare(self, rate: float) -> None:
        self.count += 1
        first, second = (1 - beta**self.count for beta in self.betas)
        self.root.fill_(1 / math.sqrt(second))
        for own, left, group in zip(self.rates, self.left, self.param_groups, strict=True):
            scaled = rate * group.get(FACTOR, 1.0)
            own.fill_(scaled / first)
            left.fill_(1 - scaled * group["weight_decay"])

    def _moments(self, parameters: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        for parameter in parameters:
            state = self.state[parameter]
            if "exp_avg" not in state:
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        return [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]

    @torch.no_grad()
    def update(self) -> None:
        for rate, left, group in zip(self.rates, self.left, self.param_groups, strict=True):
            parameters, gradients = _with_gradients(group)
            if not parameters:
                continue
            means, squares = self._moments(parameters)
            torch._foreach_mul_(parameters, left)
            torch._foreach_lerp_(means, gradients, 1 - self.betas[0])
            torch._foreach_mul_(squares, self.betas[1])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - self.betas[1])
            below = torch._foreach_sqrt(squares)
            torch._foreach_mul_(below, self.root)
            torch._foreach_add_(below, self.epsilon)
            change = torch._foreach_div(means, below)
            torch._foreach_mul_(change, rate)
            torch._foreach_sub_(parameters, change)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.count = max((int(state["step"]) for state in self.state.values()), default=0)

    def state_dict(self) -> dict[str, Any]:
        for state in self.state.values():
            state["step"] = torch.tensor(float(self.count))
        return super().state_dict()

    def tensors(self) -> list[Tensor]:
        parameters = [p for group in self.param_groups for p in _with_gradients(group)[0]]
        means, squares = self._moments(parameters)
        return [*parameters, *means, *squares]
