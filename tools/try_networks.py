"""Tries networks of timm with random, calibrated weights, and prints a Markdown table.

    python tools/try_networks.py --px 96 [--data DIR] [NAME ...]

For each network it says whether it is captured, the first reason of a refusal, whether it
certifies, how far its int8 answers are from the float network's, and how long that took. Without
names it tries NETWORKS. Without --data the images are waves with noise.

Random weights say nothing about accuracy. The signal-to-noise ratio of the logits still shows what
int8 costs: the noise of all operators together, against the differences between images.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgekd.core.artifacts import LiteModel, QuantNetwork
from edgekd.core.errors import EdgeKDError
from edgekd.core.records import Record
from edgekd.data.images import as_rgb, decode, fit
from edgekd.export.onnx_export import from_network
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders, timm_networks
from edgekd.proof.certificate import Published, certify
from edgekd.proof.certificate_record import CertificateBody
from edgekd.quantization import integer_pass, qat_network
from edgekd.settings.model_specs import spec as model_spec
from edgekd.tflite.int8_rules import Int8Rules
from edgekd.tflite.runtime import logits, run

# Today's mobile networks, one or two of each family.
NETWORKS = (
    *("repvit_m0_9", "fastvit_t8", "convnext_atto", "convnextv2_atto", "edgenext_xx_small"),
    *("mobilenetv4_hybrid_medium", "mobilevit_xxs", "mobilevitv2_050", "efficientvit_b0"),
    *("efficientformerv2_s0", "tiny_vit_5m_224", "ghostnetv2_100", "hrnet_w18_small"),
    *("cspdarknet53", "vgg11", "nf_resnet26", "poolformer_s12", "levit_128s", "shvit_s1"),
    *("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"),
)
CLASSES = 10
CALIBRATION, TESTED = 16, 4  # images; the check of single operators looks at four
FRESH = 1e-3  # standard deviation below which a parameter still has its constant initial value
HEAD = (
    "| network | verdict | answers | rewritten | int8 | operators | s |\n"
    "|---|---|---|---|---|---|---|"
)


class Tried(Record, frozen=True, kw_only=True):
    """The outcome for a network. `noise_db`: 10 log10 of the logits' variance over the images by
    their squared error in int8; `same_db`: by that of the rewritten graph before int8. `agree`:
    share of images with the same answer.
    """

    network: str
    stage: str
    reason: str
    seconds: float
    noise_db: float = float("nan")
    same_db: float = float("nan")
    agree: float = float("nan")
    ops: dict[str, int] = {}  # noqa: RUF012 - msgspec copies it

    @property
    def certified(self) -> bool:
        """Whether nothing stopped the network."""
        return not self.reason


def waves(count: int, px: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Colored waves with noise: uint8 [count, px, px, 3]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:px, 0:px] / px
    out = np.empty((count, px, px, 3), np.uint8)
    for index in range(count):
        slant = rng.uniform(-4, 4, 2)
        wave = np.sin(2 * np.pi * (rows * slant[0] + columns * slant[1] + rng.random()))
        base = rng.uniform(40, 220, 3) + rng.uniform(10, 70) * wave[..., None]
        out[index] = np.clip(base + rng.normal(0, 12, (px, px, 3)), 0, 255)
    return out


def vary(model: nn.Module, seed: int) -> None:
    """Give every parameter that still has one constant value (a gain, an offset, the scale of a
    layer) a random one near 1 or 0, and every batch norm random statistics.
    """
    stream = torch.Generator().manual_seed(seed)

    def near(tensor: Tensor, middle: float, width: float) -> Tensor:
        return middle + width * (2 * torch.rand(tensor.shape, generator=stream) - 1)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.numel() > 1 and float(parameter.std()) < FRESH:
                is_offset = name.endswith("bias") or float(parameter.mean()) == 0.0
                parameter.copy_(near(parameter, 0.0 if is_offset else 1.0, 0.3))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for part, middle in ((module.running_mean, 0.0), (module.running_var, 1.0)):
                    if part is not None:
                        part.copy_(near(part, middle, 0.3))


def build(name: str, px: int) -> tuple[nn.Module, dict[str, object]]:
    """A network for this input size, with random weights."""
    options: dict[str, object] = {"num_classes": CLASSES, **timm_networks.size_option(name, px)}
    torch.manual_seed(0)
    model = builders.create(name, options)
    vary(model, 1)
    return model, options


def attempt(name: str, px: int, images: npt.NDArray[np.uint8]) -> Tried:
    """Take one network as far as it goes."""
    start, stage = time.perf_counter(), "build"
    try:
        model, options = build(name, px)
        mean, std = builders.normalisation(model_spec(name), model)
        x = builders.normalised(images, mean, std)
        with torch.inference_mode():
            expected = model(x).numpy()
        stage = "prepare"
        network = qat_network.prepare(model, px, mean, std, Int8Rules())
        with torch.inference_mode():
            same = network.graph(network.on_grid(x)).numpy()
        stage = "calibrate"
        qat_network.calibrate(network, [x])
        done = qat_network.finish(network)
        qnet = QuantNetwork(
            arch=name,
            options=options,
            px=px,
            mean=mean,
            std=std,
            history=[],
            rules=network.rules.to_dict(),
            ranges=done.ranges,
            layers=done.layers,
            facts={},
            state=done.state,
        )
        stage = "convert"
        exported = from_network(qnet, network)
        lite = convert(exported)
        stage = "certify"
        body = _certificate(qnet, network, lite, images[:TESTED], bytes(exported.qdq))
        found = logits(lite.tflite, images)
    except EdgeKDError as error:
        return Tried(
            network=name, stage=stage, reason=error.what, seconds=time.perf_counter() - start
        )
    signal = float(((expected - expected.mean(0)) ** 2).mean())
    noise, moved = (float(((other - expected) ** 2).mean()) for other in (found, same))
    judged = [row for row in body.failures if row.check != "end_to_end"]
    first = (
        f"{judged[0].check}: {judged[0].place} is {judged[0].found}, expected {judged[0].expected}"
        if judged
        else ""
    )
    return Tried(
        network=name,
        stage=stage,
        reason=first,
        seconds=time.perf_counter() - start,
        noise_db=10 * float(np.log10(signal / noise)),
        same_db=10 * float(np.log10(signal / max(moved, np.finfo(np.float64).tiny))),
        agree=float((found.argmax(1) == expected.argmax(1)).mean()),
        ops=lite.facts["ops"],
    )


def _certificate(
    qnet: QuantNetwork,
    network: qat_network.QatNetwork,
    lite: LiteModel,
    images: npt.NDArray[np.uint8],
    onnx: bytes,
) -> CertificateBody:
    answers = integer_pass.answers(network, images)
    codes, buffer = run(lite.tflite, images), io.BytesIO()
    np.savez(
        buffer,
        inputs=images,
        logits_int8=codes,
        labels=codes.argmax(1),
        mean=np.asarray(qnet.mean, np.float32),
        std=np.asarray(qnet.std, np.float32),
    )
    labels = [str(label) for label in range(CLASSES)]
    published = Published(onnx, labels, buffer.getvalue())
    return certify(qnet, lite, images, answers, published=published)


def row(tried: Tried) -> str:
    """One row of the table."""
    ops = ", ".join(f"{count} {op}" for op, count in sorted(tried.ops.items(), key=lambda x: -x[1]))
    verdict = "certified" if tried.certified else f"{tried.stage}: {tried.reason}"
    figures = ("", "", "")
    if tried.ops:
        figures = (f"{tried.agree:.0%}", f"{tried.same_db:.0f} dB", f"{tried.noise_db:.0f} dB")
    return f"| {tried.network} | {verdict} | {' | '.join(figures)} | {ops} | {tried.seconds:.0f} |"


def main() -> int:
    """Print the table; exits 1 unless all certify."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--data", type=Path, help="a folder of images")
    arguments = parser.parse_args()
    images = waves(CALIBRATION, arguments.px)
    if arguments.data:
        kinds = {".jpg", ".jpeg", ".png"}
        files = sorted(path for path in arguments.data.rglob("*") if path.suffix.lower() in kinds)
        step = max(len(files) // CALIBRATION, 1)
        chosen = files[::step][:CALIBRATION]
        pictures = [as_rgb(decode(path.read_bytes(), path.name)) for path in chosen]
        images = np.stack([fit(picture, arguments.px) for picture in pictures])
    print(HEAD)
    results = []
    for name in arguments.names or NETWORKS:
        results.append(attempt(name, arguments.px, images))
        print(row(results[-1]), flush=True)
    passed = sum(result.certified for result in results)
    print(f"\n{passed} of {len(results)} certify.")
    return 0 if passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
