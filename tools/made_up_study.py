"""Writes a made-up study: a folder of DICOM files as an X-ray device writes them, of nobody.

    python tools/made_up_study.py study --patients 60

The pictures are EdgeKD's own synthetic radiographs in 12 bits, MONOCHROME1, with two windows,
compressed as JPEG lossless (process 14, selection value 1: the transfer syntax that most devices
write). Names, numbers and dates are made up. `study/normal/` and `study/effusion/` hold the
examinations of the two findings; a patient has one to three of them.
"""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    generate_uid,
)

from edgekd.data import phantom

Values = NDArray[np.uint16]

BITS = 12
CLASSES = ("normal", "effusion")
FAMILIES = ("Adler", "Brandt", "Castillo", "Dupont", "Eriksen", "Fischer", "Greco", "Holm")
GIVEN = ("Ada", "Bela", "Carl", "Dora", "Emil", "Frida", "Georg", "Hedda")
# Codes of 5 bits for the 17 sizes of a difference. Optimal codes would be shorter.
_CODE_BITS, _SIZES = 5, 17


def jpeg_lossless(values: Values, bits: int = BITS) -> bytes:
    """A grey picture as JPEG lossless, process 14, selection value 1 (ISO/IEC 10918-1, annex H).

    Each value is predicted from its left neighbour, and in the first column from the one above.
    """
    height, width = values.shape
    before = np.empty((height, width), np.int64)
    before[:, 1:] = values[:, :-1]
    before[1:, 0] = values[:-1, 0]
    before[0, 0] = 2 ** (bits - 1)
    text = []
    for difference in (values.astype(np.int64) - before).ravel().tolist():
        size = abs(difference).bit_length()
        more = difference if difference > 0 else difference + 2**size - 1
        text.append(f"{size:0{_CODE_BITS}b}" + (f"{more:0{size}b}" if size else ""))
    coded = "".join(text)
    coded += "1" * (-len(coded) % 8)
    data = int(coded, 2).to_bytes(len(coded) // 8, "big").replace(b"\xff", b"\xff\x00")
    frame = bytes([bits]) + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\1\1\x11\0"
    counts = bytes(_SIZES if length == _CODE_BITS else 0 for length in range(1, 17))
    codes = b"\0" + counts + bytes(range(_SIZES))
    return b"".join(
        (
            b"\xff\xd8",
            *(
                mark + (len(body) + 2).to_bytes(2, "big") + body
                for mark, body in (
                    (b"\xff\xc3", frame),
                    (b"\xff\xc4", codes),
                    (b"\xff\xda", b"\1\1\0\1\0\0"),
                )
            ),
            data,
            b"\xff\xd9",
        )
    )


def write(
    path: Path, values: Values, tags: Mapping[str, object], bits: int = BITS, lossless: bool = True
) -> None:
    """One DICOM file with these stored values. `tags`: further tags by keyword."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = JPEGLosslessSV1 if lossless else ExplicitVRLittleEndian
    made = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, generate_uid()
    made.Modality, made.SamplesPerPixel = "DX", 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.Rows, made.Columns = values.shape
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, bits, bits - 1
    made.PixelRepresentation = 0
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    if lossless:
        made.PixelData = encapsulate([jpeg_lossless(values, bits)])
        made["PixelData"].is_undefined_length = True
    else:
        made.PixelData = values.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)


def study(folder: Path, patients: int, px: int, seed: int = 0) -> int:
    """Write the examinations of some patients; returns how many files that are."""
    rng = np.random.default_rng(seed)
    # Three pictures of each patient are enough, and a quarter of the phantom's are of each class.
    drawn = {
        name: [k for k in range(12 * patients) if phantom.label(k) == name] for name in CLASSES
    }
    files = 0
    for patient in range(patients):
        label = CLASSES[patient % len(CLASSES)]
        name = f"{FAMILIES[patient % 8]}^{GIVEN[patient // 8 % 8]}"
        number = f"MRN{100_000 + 37 * patient}"
        first = dt.date(2015, 1, 1) + dt.timedelta(days=int(rng.integers(0, 3000)))
        study_uid = generate_uid()
        for visit in range(int(rng.integers(1, 4))):
            picture = phantom.render(seed, drawn[label].pop(), px).astype(np.float64)
            # The device inverts, and its values use a part of the 12 bits.
            grain = rng.normal(0, 4, picture.shape)
            values = np.clip(np.rint(3600 - picture * 12 + grain), 0, 2**BITS - 1)
            person = f"{name.replace('^', '_').upper()}_{number}"
            write(
                folder / label / person / f"{visit + 1}" / "IM0001",
                values.astype(np.uint16),
                {
                    "PhotometricInterpretation": "MONOCHROME1",
                    "PatientName": name,
                    "PatientID": number,
                    "PatientBirthDate": f"19{30 + patient % 60}0{1 + patient % 9}11",
                    "StudyInstanceUID": study_uid,
                    "StudyDate": (first + dt.timedelta(days=90 * visit)).strftime("%Y%m%d"),
                    "RescaleSlope": 1,
                    "RescaleIntercept": 0,
                    "WindowCenter": [2070, 1800],
                    "WindowWidth": [3060, 2000],
                    "WindowCenterWidthExplanation": ["NORMAL", "HARDER"],
                },
            )
            files += 1
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--px", type=int, default=96)
    asked = parser.parse_args()
    files = study(asked.folder, asked.patients, asked.px)
    print(f"{asked.folder}: {files} DICOM files of {asked.patients} patients")


if __name__ == "__main__":
    main()
