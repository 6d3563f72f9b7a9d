"""The outputs of a bundle's model beside its answers: what an app must know of each."""

from __future__ import annotations

from collections.abc import Mapping

from edgekd.bundle.deployment_record import Deployment, FurtherOutput
from edgekd.core.records import UNSET, UnsetType, present
from edgekd.proof.certificate_record import CertificateBody
from edgekd.tflite import ports
from edgekd.tflite.flatbuffer import LiteTensor, read
from edgekd.tflite.metadata_codec import Table


def outputs(tflite: bytes, certificate: CertificateBody) -> list[FurtherOutput] | UnsetType:
    """What deployment.json says of each; UNSET for a file with one output.

    `tflite`: the certified file. The scale and the zero point are those of the uint8 model.
    """
    graph = read(ports.with_ports(tflite, "uint8"))
    rows = present(certificate.further_outputs) or []
    found = []
    for index, (row, place) in enumerate(zip(rows, graph.outputs[1:], strict=True), 1):
        tensor = graph.tensors[place]
        found.append(
            FurtherOutput(
                index=index,
                name=row.name,
                tensor=tensor.name,
                dtype=tensor.dtype.lower(),
                shape=list(tensor.shape),
                axes=row.axes,
                scale=float(tensor.scale[0]),
                zero_point=int(tensor.zero_point[0]),
            )
        )
    return found or UNSET


def metadata(contract: Deployment) -> list[Table]:
    """The TensorMetadata of each: readers of the format expect one for every output."""
    return [
        {
            "name": row.name,
            "description": f"the network's output {row.name}; its axes here, by the number of the "
            f"network's own: {row.axes}",
            "content": {"content_properties": {"FeatureProperties": {}}},
            "stats": {
                "max": [(255 - row.zero_point) * row.scale],
                "min": [-row.zero_point * row.scale],
            },
        }
        for row in present(contract.further_outputs) or []
    ]


def faults(contract: Deployment, tensors: list[LiteTensor]) -> list[str]:
    """How these outputs differ from what deployment.json states. `tensors`: the uint8 model's."""
    rows = present(contract.further_outputs) or []
    stated = [_plain(row.tensor, row.shape, row.scale, row.zero_point) for row in rows]
    real = [
        _plain(tensor.name, list(tensor.shape), float(tensor.scale[0]), int(tensor.zero_point[0]))
        for tensor in tensors
    ]
    return [] if stated == real else [f"it states the outputs {stated}, and the model has {real}"]


def _plain(name: str, shape: list[int], scale: float, zero_point: int) -> Mapping[str, object]:
    return {"tensor": name, "shape": shape, "scale": scale, "zero_point": zero_point}
