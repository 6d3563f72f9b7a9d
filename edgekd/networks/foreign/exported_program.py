"""A network in a .pt2 file, which torch.export.save writes.

Such a file is a zip of JSON and raw tensors. It may also hold pickled objects, and a pickle can run
any code: a file with one is refused unless the user trusts it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekd.core.errors import ModelFileError, RecipeError, UnsupportedNetwork
from edgekd.networks.foreign.model import Asked, Foreign, FromNhwc, Layout, read, square

CHANNELS = (1, 3)
# Parts of the archive that torch unpickles or runs (torch.export.pt2_archive).
PICKLED = ("custom_obj_", "opaque_obj_")
# Operators whose argument 1 is a shape.
SHAPED = frozenset(
    {
        torch.ops.aten.view.default,
        torch.ops.aten.reshape.default,
        torch.ops.aten._unsafe_view.default,
    }
)
# Operators with another training form: {operator: the argument that asks for it}.
TRAINING = {
    torch.ops.aten.batch_norm.default: 5,
    torch.ops.aten.dropout.default: 2,
    torch.ops.aten.dropout_.default: 2,
}
COMPILED = "data/aotinductor/"
MOST_UNPACKED = 4  # times the file's own size
SAVE = "save the network with torch.export.save(torch.export.export(network, (images,)), FILE)"


def load(path: Path, asked: Asked) -> Foreign:
    """The network of a torch.export program.

    Raises ModelFileError for a file that is damaged, or that would run code, and RecipeError for an
    input that is no image.
    """
    data = read(path)
    if not asked.trust:
        _refuse_pickles(path, data, asked.options.trust)
    try:
        with _silent():
            program = torch.export.load(io.BytesIO(data))
    except Exception as error:  # torch raises many types for a file that it cannot read
        raise ModelFileError(
            f"{path}: damaged, or written by another version of torch than {torch.__version__}",
            "save it again with torch.export.save(program, FILE) and this version of torch",
        ) from error
    shape = _image(path, program)
    px, channels, layout = _layout(path, shape, asked)
    inner: Any = program.module(check_guards=False)
    inner._forward_pre_hooks.clear()  # they insist on the batch size of the example
    _eval_form(inner)
    _any_batch(inner, shape[0])
    _run_once(path, inner, shape)
    module: nn.Module = _Program(inner)
    return Foreign(
        name=path.stem,
        module=FromNhwc(module) if layout is Layout.NHWC else module,
        px=px,
        channels=channels,
        origin=path.name,
        digest=hashlib.sha256(data).hexdigest(),
    )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the warnings and the log lines of torch.export: an error says what is wrong."""
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


class _Program(nn.Module):
    """A program in the eval form that it was exported in, which cannot be changed."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        found: Any = self.program(images)
        return found[0] if isinstance(found, (list, tuple)) and len(found) == 1 else found

    def train(self, mode: bool = True) -> _Program:
        """Does nothing: torch refuses to change the form of a program."""
        del mode
        return self


def _eval_form(program: fx.GraphModule) -> None:
    """Put a program that was exported without `network.eval()` into eval form: batch norms with
    their running statistics, which then do not count batches, and no dropout.
    """
    for node in list(program.graph.nodes):
        if node.target in TRAINING:
            place = TRAINING[node.target]
            node.args = (*node.args[:place], False, *node.args[place + 1 :])
        elif node.target is torch.ops.aten.add_.Tensor and not node.users:
            program.graph.erase_node(node)
    program.recompile()


def _any_batch(program: fx.GraphModule, batch: int) -> None:
    """Let shapes that a program holds for its own batch size serve any other one."""
    for node in program.graph.nodes:
        if node.op != "call_function" or len(node.args) < 2:
            continue
        sizes: Any = node.args[1]
        if node.target in SHAPED and isinstance(sizes, (list, tuple)) and sizes[0] == batch:
            rest = [int(size) for size in node.meta["val"].shape[1:]]
            node.args = (node.args[0], [-1, *rest], *node.args[2:])
    program.recompile()


def _run_once(path: Path, program: nn.Module, shape: list[int]) -> None:
    """Raise UnsupportedNetwork for a program whose shapes hold for its own batch alone."""
    try:
        with torch.inference_mode():
            program(torch.zeros(1, *shape[1:]))
    except Exception as error:  # whatever an operator raises
        raise UnsupportedNetwork(
            f"{path}: made for {shape[0]} images at once, it fails on one: "
            f"{(str(error).strip() or type(error).__name__).splitlines()[0]}",
            "save it for any number of images: torch.export.export(network, (images,), "
            "dynamic_shapes=({0: torch.export.Dim('n')},))",
        ) from error


def _refuse_pickles(path: Path, data: bytes, option: str) -> None:
    """Raise ModelFileError unless the file is an archive that is read without running code.

    `option`: how a user allows it.
    """
    trusted = f"use {option} if {path.name} comes from somebody whom you trust with this machine"
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        names = archive.namelist()
    except zipfile.BadZipFile:
        what = "a pickle" if data[:1] == b"\x80" else "no archive, or a truncated one"
        raise ModelFileError(
            f"{path}: {what}, and not what torch.export.save writes",
            SAVE,
        ) from None
    _check_size(path, archive, len(data))
    inner = [name.partition("/")[2] for name in names]
    if not any(name.startswith("models/") and name.endswith(".json") for name in inner):
        raise ModelFileError(
            f"{path}: a file of torch.save (a pickle) with the name of a torch.export program",
            SAVE,
        )
    bad = [
        name
        for name in inner
        if name.startswith(COMPILED) or name.rpartition("/")[2].startswith(PICKLED)
    ]
    bad += [name for name in names if name.endswith("_config.json") and _pickled(archive, name)]
    bad += [name for name in names if "/sample_inputs/" in name and not _plain(archive, name)]
    if bad:
        raise ModelFileError(
            f"{path}: {bad[0]} in it holds pickled objects or compiled code, which could run "
            "anything",
            trusted,
        )


def _check_size(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    """Raise ModelFileError for an archive that unpacks to far more than it is: torch.export.save
    does not compress.
    """
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MOST_UNPACKED * size:
        raise ModelFileError(
            f"{path}: {size} bytes that unpack to {unpacked}, which torch.export.save never writes",
            SAVE,
        )


def _pickled(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether a list of weights or constants has one that is pickled."""
    try:
        rows = json.loads(archive.read(name)).get("config", {}).values()
        return any(row.get("use_pickle") for row in rows)
    except (ValueError, AttributeError):
        return True


def _plain(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether the sample inputs are tensors alone."""
    try:
        torch.load(io.BytesIO(archive.read(name)), weights_only=True)
    except Exception:  # whatever the reason, torch.export.load would unpickle it
        return False
    return True


def _image(path: Path, program: torch.export.ExportedProgram) -> list[int]:
    """The shape of the program's one input. Raises RecipeError."""
    args, kwargs = program.example_inputs or ((), {})
    inputs = [*args, *kwargs.values()]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].ndim != 4:
        shapes = ", ".join(
            str(list(part.shape)) if isinstance(part, Tensor) else type(part).__name__
            for part in inputs
        )
        raise RecipeError(
            f"{path}: {len(inputs)} inputs ({shapes or 'not stated'}); one image with 4 axes is "
            "expected",
            "export the network for one image: torch.export.export(network, (images,))",
        )
    return [int(size) for size in inputs[0].shape]


def _layout(path: Path, shape: list[int], asked: Asked) -> tuple[int, int, Layout]:
    """The side of the image, its channels, and the order of its axes. Raises RecipeError."""
    first = shape[1] in CHANNELS and asked.layout is not Layout.NHWC
    layout = Layout.NCHW if first else Layout.NHWC
    channels, height, width = (
        (shape[1], shape[2], shape[3]) if first else (shape[3], shape[1], shape[2])
    )
    if channels not in CHANNELS:
        raise RecipeError(
            f"{path}: its input is {shape}; an image of 1 or 3 channels is expected",
            "export the network for [n, 3, side, side], or say "
            f"{asked.options.layout.format('nhwc')}",
        )
    return square(str(path), height, width, asked), channels, layout
