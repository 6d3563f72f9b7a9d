"""Records the aten graph of a float network from one forward pass, without torch.export.

Each operator is recorded as it runs, in the order and under the name that torch.export gives it.
Under inference mode torch does not decompose operators before that. The graph holds for the batch
size of the pass; `edgekd.quantization.capture` says when it holds for all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.plain_graph import plain

aten = torch.ops.aten
WHOLE = 2**63 - 1  # the end of a slice of everything, as torch writes it


@dataclasses.dataclass(frozen=True)
class Recording:
    """What one forward pass of `model` ran.

    `tensors`: {path: what the graph reads that is not the input}. `python_values`: whether a value
    of a tensor became a Python number, on which the network may have branched, or a tensor that is
    no parameter or buffer came in, which may have been computed from the images.
    """

    model: nn.Module
    graph: fx.Graph
    tensors: dict[str, Tensor]
    python_values: bool

    def network(self) -> fx.GraphModule:
        """The graph in plain form, with copies of what it reads."""
        return plain(self.model, self.graph, self.tensors)


def record(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Record `model` in eval form as an aten graph for a batch of one.

    `example`: float32 [n, channels, px, px]; its first image is run. The graph has one input and
    one output and holds copies of the parameters. Raises UnsupportedNetwork when the network fails,
    or has several outputs.
    """
    return recorded(model, example[:1].clone()).network()


def recorded(model: nn.Module, images: Tensor) -> Recording:
    """Record one forward pass of `model` in eval form on float32 [n, channels, px, px].

    Raises UnsupportedNetwork as `record` does.
    """
    model.eval()
    recorder = _Recorder(model)
    recorder.write(images, recorder.graph.placeholder("x"))
    handles = [
        hook for name, module in model.named_modules() for hook in recorder.watch(name, module)
    ]
    try:
        # Without cuDNN, as torch.export: a batch norm takes the choice as an argument.
        with (
            torch.backends.cudnn.flags(enabled=False),
            torch.inference_mode(),
            recorder,
            _WholeSlices(recorder),
        ):
            answer = model(images)
    except Exception as error:  # a network's own code may raise anything
        raise UnsupportedNetwork(
            f"{type(model).__name__} fails on an image of {list(images.shape[1:])}: "
            f"{(str(error).strip() or type(error).__name__).splitlines()[0]}",
            "take the size that it was made for, such as --set data.input_px=224 of a build or "
            "--px 224 of convert, or a student of the models that `edgekd models` lists",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if isinstance(answer, (list, tuple)) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, Tensor):
        raise UnsupportedNetwork(
            f"{type(model).__name__} has more than one output; int8 training takes one",
            "give a Python function that returns a module whose forward gives logits alone",
        )
    recorder.graph.output(recorder.node(answer))
    return recorder.recording()


class _Recorder(TorchDispatchMode):
    """Records each aten operator that runs in `graph`."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing here is compiled, and to skip it torch would import torch._dynamo (1.6 s)."""
        return False

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self._model = model
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Tensor] = []  # an id belongs to one tensor only while that tensor lives
        self._stack: list[tuple[str, type[nn.Module]]] = []
        self._python_values = False
        # First all that the model holds, as in torch.export's graphs. What nothing reads is dropped
        # later.
        self._tensors = dict([*model.named_parameters(), *model.named_buffers()])
        for path, value in self._tensors.items():
            self.write(value, self.graph.get_attr(path))

    def watch(self, path: str, module: nn.Module) -> list[Any]:
        """Hooks that keep track of the module that runs."""

        def enter(_module: nn.Module, _inputs: Any) -> None:
            self._stack.append((path, type(module)))

        def leave(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            self._stack.pop()

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def recording(self) -> Recording:
        """All that was recorded."""
        return Recording(self._model, self.graph, self._tensors, self._python_values)

    def write(self, value: Tensor, node: fx.Node) -> None:
        """Remember the node of a tensor. Of the value, only shape and dtype are kept."""
        node.meta["val"] = torch.empty_like(value, device="meta")
        self._nodes[id(value)] = node
        self._alive.append(value)

    def node(self, value: Tensor) -> fx.Node:
        """The node of a tensor. A constant of the network's Python gets one when it is read."""
        if id(value) not in self._nodes:
            path = f"constant_{len(self._tensors)}"
            self._tensors[path] = value
            self._python_values = True
            self.write(value, self.graph.get_attr(path))
        return self._nodes[id(value)]

    @contextlib.contextmanager
    def sliced_whole(self, value: Tensor) -> Iterator[None]:
        """Read a slice of everything instead of `value` meanwhile."""
        if (source := self._nodes.get(id(value))) is None:
            yield
            return
        whole = self._call(aten.slice.Tensor, (source, 0, 0, WHOLE), {})
        whole.meta["val"] = source.meta["val"]
        self._nodes[id(value)] = whole
        try:
            yield
        finally:
            self._nodes[id(value)] = source

    def __torch_dispatch__(
        self,
        op: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Any:
        """Run `op` and record it."""
        result = op(*args, **(kwargs or {}))
        node = self._call(op, self._nodes_in(args), self._nodes_in(kwargs or {}))
        if isinstance(result, Tensor):
            self.write(result, node)
        elif isinstance(result, (list, tuple)):
            node.meta["val"] = [torch.empty_like(part, device="meta") for part in result]
            for index, part in enumerate(result):
                item = self.graph.call_function(operator.getitem, (node, index))
                item.meta["nn_module_stack"] = node.meta["nn_module_stack"]
                self.write(part, item)
        else:
            self._python_values = True
        return result

    def _call(self, op: Any, args: Any, kwargs: Any) -> fx.Node:
        """A node that calls `op`, named as torch.export names it."""
        name = op.overloadpacket.__name__
        node = self.graph.create_node("call_function", op, args, kwargs, name=name)
        node.meta["nn_module_stack"] = {path: (path, kind) for path, kind in self._stack}
        return node

    def _nodes_in(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.node(value)
        if isinstance(value, (list, tuple)):
            return type(value)(self._nodes_in(part) for part in value)
        if isinstance(value, dict):
            return {key: self._nodes_in(part) for key, part in value.items()}
        return value


class _WholeSlices(TorchFunctionMode):
    """Records the slice of the whole batch in `x[:, a:b]`, which torch skips and torch.export
    counts in the names of the slices. It is dropped later.
    """

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        whole = function is Tensor.__getitem__ and isinstance(args[1], tuple)
        with (
            self._recorder.sliced_whole(args[0])
            if whole and args[1][:1] == (slice(None),)
            else contextlib.nullcontext()
        ):
            return function(*args, **(kwargs or {}))
