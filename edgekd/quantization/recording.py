"""Records the aten graph of a float network from one forward pass, without torch.export.

The graph is that of `edgekd.quantization.capture.capture`. torch.export serves any batch size but
takes 2 s to import and to run. An untrained network that is only checked does not need it: each
operator is recorded as it runs. Under inference mode torch does not decompose operators before
that.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.capture import plain


def record(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Record `model` in eval form as an aten graph for a batch of one.

    `example`: float32 [n, channels, px, px]; its first image is run. The graph has one input and
    one output and holds copies of the parameters. Raises UnsupportedNetwork when the network fails,
    or has several outputs.
    """
    model.eval()
    image = example[:1].clone()
    recorder = _Recorder(model)
    recorder.write(image, recorder.graph.placeholder("x"))
    handles = [
        hook for name, module in model.named_modules() for hook in recorder.watch(name, module)
    ]
    try:
        with torch.inference_mode(), recorder:
            answer = model(image)
    except Exception as error:  # a network's own code may raise anything
        raise UnsupportedNetwork(
            f"{type(model).__name__} fails on an image of {list(image.shape[1:])}: "
            f"{(str(error).strip() or type(error).__name__).splitlines()[0]}",
            "take another input size, or a student of the models that `edgekd models` lists",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if isinstance(answer, (list, tuple)) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, Tensor):
        raise UnsupportedNetwork(
            f"{type(model).__name__} has more than one output; int8 training takes one",
            "strip adapters and auxiliary exits before QAT",
        )
    recorder.graph.output(recorder.node(answer))
    return plain(model, recorder.graph, recorder.tensors)


class _Recorder(TorchDispatchMode):
    """Records each aten operator that runs in `graph`. `tensors`: {path: parameter or buffer} it
    reads.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.tensors: dict[str, Tensor] = {}
        self._paths = {
            id(value): path for path, value in [*model.named_parameters(), *model.named_buffers()]
        }
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Tensor] = []  # an id belongs to one tensor only while that tensor lives
        self._stack: list[tuple[str, type[nn.Module]]] = []

    def watch(self, path: str, module: nn.Module) -> list[Any]:
        """Hooks that keep track of the module that runs."""

        def enter(_module: nn.Module, _inputs: Any) -> None:
            self._stack.append((path, type(module)))

        def leave(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            self._stack.pop()

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def write(self, value: Tensor, node: fx.Node) -> None:
        """Remember the node of a tensor. Of the value, only shape and dtype are kept."""
        node.meta["val"] = torch.empty_like(value, device="meta")
        self._nodes[id(value)] = node
        self._alive.append(value)

    def node(self, value: Tensor) -> fx.Node:
        """The node of a tensor. A parameter gets one when it is first read."""
        if id(value) not in self._nodes:
            path = self._paths.get(id(value))
            if path is None:
                path = f"constant_{len(self.tensors)}"
            self.tensors[path] = value
            self.write(value, self.graph.get_attr(path))
        return self._nodes[id(value)]

    def __torch_dispatch__(
        self,
        op: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Any:
        """Run `op` and record it."""
        result = op(*args, **(kwargs or {}))
        node = self.graph.create_node(
            "call_function",
            op,
            self._nodes_in(args),
            self._nodes_in(kwargs or {}),
            name=op.overloadpacket.__name__,
        )  # as torch.export names it
        node.meta["nn_module_stack"] = {path: (path, kind) for path, kind in self._stack}
        if isinstance(result, Tensor):
            self.write(result, node)
        elif isinstance(result, (list, tuple)):
            node.meta["val"] = [torch.empty_like(part, device="meta") for part in result]
            for index, part in enumerate(result):
                item = self.graph.call_function(operator.getitem, (node, index))
                item.meta["nn_module_stack"] = node.meta["nn_module_stack"]
                self.write(part, item)
        return result

    def _nodes_in(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.node(value)
        if isinstance(value, (list, tuple)):
            return type(value)(self._nodes_in(part) for part in value)
        if isinstance(value, dict):
            return {key: self._nodes_in(part) for key, part in value.items()}
        return value
