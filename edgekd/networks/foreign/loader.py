"""Which form a text names, and the network of it.

load("model.onnx")                       an ONNX file
load("model.pt2")                        a torch.export program
load("package.module:function")          a function that returns an nn.Module
load("torchvision:resnet18@DEFAULT")     a network of torchvision
load("hf-hub:timm/resnet18.a1_in1k")     a repository on the hub
load("resnet18@weights.safetensors")     a network of timm with weights; also NAME@hub, NAME.TAG
"""

from __future__ import annotations

from edgekd.core import files
from edgekd.core.errors import ModelFileError
from edgekd.networks.foreign.forms import FORMS, FUNCTION, OTHERS
from edgekd.networks.foreign.model import Asked, Foreign

MODEL = "the model"  # in messages


def load(text: str, asked: Asked) -> Foreign:
    """The network that a text names. Raises what its form raises, and ModelFileError for a file of
    another kind.
    """
    path = files.expanded(text, MODEL)
    suffix = path.suffix.lower() if "@" not in text else ""
    if suffix == ".onnx":
        from edgekd.networks.foreign import onnx_file

        return onnx_file.load(path, asked)
    if suffix == ".pt2":
        from edgekd.networks.foreign import exported_program

        return exported_program.load(path, asked)
    if suffix in OTHERS:
        raise ModelFileError(
            f"{text}: convert takes {FORMS}", OTHERS[suffix].format(name=path.name)
        )
    if files.is_file(path, MODEL):
        raise ModelFileError(f"{text}: not a file that convert takes", f"name one of {FORMS}")
    if files.is_folder(path, MODEL):
        raise ModelFileError(f"{text} is a folder; convert takes {FORMS}", "name a file in it")
    if text.startswith("torchvision:"):
        from edgekd.networks.foreign import torchvision_name

        return torchvision_name.load(text, asked)
    if text.startswith("hf-hub:"):
        from edgekd.networks.foreign import timm_name

        return timm_name.from_hub(text, asked)
    if FUNCTION.match(text):
        from edgekd.networks.foreign import python_function

        return python_function.load(text, asked)
    from edgekd.networks.foreign import timm_name

    return timm_name.load(text, asked)
