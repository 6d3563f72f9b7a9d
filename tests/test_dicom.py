"""DICOM files: pydicom's own pixels, patients that stay together, and nobody's name anywhere."""

from __future__ import annotations

import datetime as dt
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import pixels
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from edgekd.app import cli
from edgekd.core.artifacts import Dataset as Images
from edgekd.core.errors import DataError, MissingExtra
from edgekd.data import datasets, images, patient_columns, source_registry
from edgekd.data.bit_depth import Wide, scaled
from edgekd.data.dataset_builder import build_dataset
from edgekd.data.depth_record import WindowKind
from edgekd.data.dicom_source import DicomSource
from edgekd.data.pixel_rules import Window
from edgekd.settings.recipe import DataConfig
from tools import made_up_study

Values = NDArray[np.uint16]
PLANTED = "zzplanted"
# Two windows, as the case has them: values 0..4095, of which the first shows 700..3300.
WINDOWS = {
    "PhotometricInterpretation": "MONOCHROME1",
    "WindowCenter": [2000, 1500],
    "WindowWidth": [2600, 1000],
}


def detector(seed: int, px: int = 24) -> Values:
    """A detector's values in 12 bits: a bright or dark field with noise."""
    rng = np.random.default_rng(seed)
    base = np.linspace(300, 3900, px)[:, None] * np.ones(px)
    return np.clip(base + rng.normal(0, 60, (px, px)), 0, 4095).astype(np.uint16)


def levels(path: Path, window: Window, depth: float | None = None) -> Values:
    """A file's grey levels as EdgeKD reads them, 0..65535."""
    found = images.read(path.read_bytes(), path.name, window)
    assert isinstance(found, Wide)
    return scaled(found, found.white or depth or 0)


# --- pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("tags", [{}, {"RescaleSlope": 0.5, "RescaleIntercept": -100}])
def test_pixels_are_pydicoms_to_the_bit(
    tmp_path: Path, number: int, tags: Mapping[str, object]
) -> None:
    """JPEG lossless, MONOCHROME1, two windows, with and without rescaling."""
    made_up_study.write(tmp_path / "a.dcm", detector(1), {**WINDOWS, **tags})
    own = pydicom.dcmread(tmp_path / "a.dcm")
    np.testing.assert_array_equal(own.pixel_array, detector(1))
    shown = pixels.apply_voi_lut(pixels.apply_modality_lut(own.pixel_array, own), own, number - 1)
    slope, intercept = float(tags.get("RescaleSlope", 1)), float(tags.get("RescaleIntercept", 0))
    low, high = intercept, 4095 * slope + intercept
    expected = 65535 - np.rint((shown - low) / (high - low) * 65535)
    found = levels(tmp_path / "a.dcm", Window(number=number))
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 100


def test_a_window_by_the_standards_formula(tmp_path: Path) -> None:
    """PS3.3, C.11.2.1.2.1, and the same picture as MONOCHROME2."""
    made_up_study.write(
        tmp_path / "a.dcm", detector(2), {**WINDOWS, "PhotometricInterpretation": "MONOCHROME2"}
    )
    share = (detector(2) - (2000 - 0.5)) / (2600 - 1) + 0.5
    found = levels(tmp_path / "a.dcm", Window())
    assert np.abs(found - np.clip(share, 0, 1) * 65535).max() <= 1


def test_stored_bits_and_percentiles(tmp_path: Path) -> None:
    made_up_study.write(tmp_path / "a.dcm", detector(3), WINDOWS)
    by_bits = levels(tmp_path / "a.dcm", Window(WindowKind.BITS))
    np.testing.assert_array_equal(by_bits, 65535 - np.rint(detector(3) / 4095 * 65535))
    low, high = np.percentile(detector(3), (1, 99))
    share = np.clip((detector(3) - low) / (high - low), 0, 1)
    found = levels(tmp_path / "a.dcm", Window(WindowKind.PERCENTILES))
    assert np.abs(found - (1 - share) * 65535).max() <= 1


def test_signed_values_and_a_lookup_table(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 12]
    table.LUTData = np.arange(4095, -1, -1, dtype="<u2").tobytes()
    made_up_study.write(tmp_path / "a.dcm", detector(4), {"VOILUTSequence": [table]})
    np.testing.assert_array_equal(
        levels(tmp_path / "a.dcm", Window()), np.rint((4095 - detector(4)) / 4095 * 65535)
    )
    signed = (detector(4).astype(int) - 2048).astype(np.int16)
    tags = {"PixelRepresentation": 1, "RescaleSlope": 1, "RescaleIntercept": -1000}
    made_up_study.write(tmp_path / "b.dcm", signed.view(np.uint16), tags, lossless=False)
    np.testing.assert_array_equal(
        levels(tmp_path / "b.dcm", Window()), np.rint(detector(4) / 4095 * 65535)
    )


def test_sixteen_stated_bits_are_decided_by_the_whole_set(tmp_path: Path) -> None:
    """BitsStored 16 with 12 bits in it, as many devices write it. One file has a bright pixel."""
    for kind in ("a", "b"):
        for number in range(16):
            values = detector(number + 50 * (kind == "b"))
            values[0, 0] = 4095 if (kind, number) != ("a", 3) else 4100
            file = tmp_path / "set" / kind / f"{number}.dcm"
            made_up_study.write(file, values, {"PatientID": f"{kind}{number}"}, 16, lossless=False)
    found = build_dataset(
        source_registry.open_all(DataConfig(source=str(tmp_path / "set"))), DataConfig()
    )
    assert found.facts["depth"]["whites"] == {"integers": 4095.0}
    assert "a/3.dcm" in found.facts["warnings"][0]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "said", "step"),
    [
        ({"NumberOfFrames": 3}, "3 frames", "on_error=skip"),
        ({**WINDOWS, "WindowCenter": 5, "WindowWidth": 9}, "the file has 1", "percentiles"),
        ({**WINDOWS, "WindowWidth": [0, 0]}, "its window", "data.window=bits"),
        ({"RescaleSlope": 0, "RescaleIntercept": 5}, "rescaling", "data.window=bits"),
        ({"Rows": 40_000, "Columns": 40_000}, "megapixels", "on_error=skip"),
        ({"Rows": 900}, "damaged pixels", "on_error=skip"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    tmp_path: Path, tags: Mapping[str, object], said: str, step: str
) -> None:
    path = tmp_path / "a.dcm"
    made_up_study.write(path, detector(5), {**tags, "PatientName": PLANTED}, lossless=False)
    with pytest.raises(DataError, match=rf"^a\.dcm: .*{said}") as error:
        images.read(path.read_bytes(), "a.dcm", Window(number=2))
    assert step in error.value.next_step
    assert PLANTED not in str(error.value)


@pytest.mark.parametrize("cut", [20, 300, 1300])
def test_a_file_cut_short_is_refused_and_not_filled_up(tmp_path: Path, cut: int) -> None:
    made_up_study.write(tmp_path / "a.dcm", detector(6), {})
    with pytest.raises(DataError, match="cut short"):
        images.read((tmp_path / "a.dcm").read_bytes()[:-cut], "a.dcm")


def test_without_pydicom_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        made_up_study.write(tmp_path / "set" / name / "1", detector(6), {}, lossless=False)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingExtra, match=r"2 DICOM files \(a/1, b/1\)") as error:
        source_registry.open_all(DataConfig(source=str(tmp_path / "set")))
    assert "edgekd[dicom]" in error.value.next_step


# --- patients and dates ---------------------------------------------------------------------------


def clinic(
    root: Path, patient: Mapping[str, object] | None = None, visits: int = 3, patients: int = 40
) -> Path:
    """Two findings in a folder as a clinic exports it: patients by name, files without a suffix."""
    planted = {
        keyword: f"{PLANTED}tag{tag:08x}"[: 16 if vr == "SH" else 60]
        for tag, (vr, _, _, _, keyword) in DicomDictionary.items()
        if vr in ("PN", "LO", "SH", "LT", "ST", "UT")
        and tag >> 16 in (0x0008, 0x0010, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040)
        and keyword
    }
    for number in range(patients):
        name = f"{PLANTED}family{number}^{PLANTED}given{number}"
        for visit in range(visits):
            tags = {
                **WINDOWS,
                **(planted if number < 2 else {}),
                "PatientName": name,
                "PatientID": f"{PLANTED}id{number}",
                "PatientBirthDate": f"19350{1 + number % 9}17",
                "StudyDate": f"20{10 + number // 4}0{1 + visit}23",
                "AccessionNumber": f"{PLANTED}{number}"[:16],
                **(patient or {}),
            }
            folder = root / ("sick" if number % 2 else "well") / name.replace("^", "_").upper()
            values = detector(10 * number + visit)
            values = values if number % 2 else values[::-1]
            made_up_study.write(folder / f"IM{visit}", values, tags)
    return root


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = clinic(tmp_path_factory.mktemp("clinic") / "study", visits=2)
    (root / "sick" / f"{PLANTED}family1.pdf").write_bytes(b"%PDF-1.7 a letter")
    return root


def test_a_study_in_time_keeps_patients_apart_and_only_years(study: Path) -> None:
    config = DataConfig(source=str(study), split="time", cache_px=32)
    data = build_dataset(source_registry.open_all(config), config)
    splits: dict[str, set[str]] = {}
    for row in data.images:
        splits.setdefault(str(row["group"]), set()).add(row["split"])
    assert sorted(splits) == [f"patient-{number + 1:04}" for number in range(40)]
    assert all(len(found) == 1 for found in splits.values())
    assert data.facts["years"] == {"train": [2010, 2016], "val": [2016, 2018], "test": [2018, 2019]}


def test_sex_age_and_view_come_from_the_headers(tmp_path: Path) -> None:
    tags = {"PatientSex": "F", "PatientAge": "058Y", "ViewPosition": "PA"}
    source = source_registry.open_all(DataConfig(source=str(clinic(tmp_path / "a", tags, 1, 4))))
    assert patient_columns.known(source) == ["sex", "age", "view"]
    assert set((patient_columns.values(source, "age") or {}).values()) == {"058Y"}
    assert patient_columns.values(source, "PatientWeight") is None
    assert patient_columns.is_medical(source.name, source.facts.source, [])


def test_a_split_in_time_tests_the_latest_patients() -> None:
    from edgekd.data.splits import hold_out_latest

    labels = [("a",), ("b",)] * 30
    groups = [f"p{index // 2}" for index in range(60)]
    dates = [dt.date(2000 + (index // 2 * 7) % 30, 1, 1) for index in range(60)]
    chosen = hold_out_latest(labels, groups, dates, 0.2, "test")
    assert len(chosen) == 12
    rest = set(range(60)) - chosen
    assert max(dates[index] for index in rest) < min(dates[index] for index in chosen)
    with pytest.raises(DataError, match=r"class 'b'.*train needs"):
        hold_out_latest([("a",)] * 55 + [("b",)] * 5, groups, sorted(dates), 0.2, "test")


def test_a_table_of_labels_names_dicom_files(tmp_path: Path) -> None:
    lines = ["image,label"]
    for number in range(60):
        tags = {**WINDOWS, "PatientID": f"{PLANTED}{number // 2}"}
        made_up_study.write(tmp_path / "img" / f"{number}.dcm", detector(number), tags)
        lines.append(f"img/{number}.dcm,{'well' if number // 2 % 2 else 'sick'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    config = DataConfig(source=str(tmp_path / "labels.csv"), cache_px=32)
    data = build_dataset(source_registry.open_all(config), config)
    assert {row["name"] for row in data.images} == {f"img/{number}.dcm" for number in range(60)}
    assert data.facts["groups"]["train_and_test"] == 0
    assert data.facts["groups"]["train"] + data.facts["groups"]["test"] < 30


def test_one_patient_id_for_all_is_no_patient(tmp_path: Path) -> None:
    root = clinic(tmp_path / "anonymous", {"PatientID": "ANON", "StudyInstanceUID": ""}, 1, 4)
    for number, path in enumerate(sorted(root.rglob("IM0"))):
        found = pydicom.dcmread(path)
        found.StudyInstanceUID = f"1.2.{number // 2}"
        found.save_as(path)
    source = source_registry.open_all(DataConfig(source=str(root)))
    assert {item.group for item in source.items()} == {"patient-0001", "patient-0002"}
    assert "the same PatientID" in source.facts.warnings[0]


def test_what_has_no_image_or_a_name_in_its_picture_is_told(tmp_path: Path) -> None:
    root = clinic(tmp_path / "study", {"BurnedInAnnotation": "YES"}, 1, 4)
    report = pydicom.dcmread(next(root.rglob("IM0")))
    for tag in ("PixelData", "Rows", "Columns"):
        del report[tag]
    report.Modality, report.file_meta.TransferSyntaxUID = "SR", pydicom.uid.ExplicitVRLittleEndian
    report.save_as(root / "sick" / f"{PLANTED.upper()}FAMILY0")
    (root / "sick" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    source = source_registry.open_all(DataConfig(source=str(root)))
    assert len(source.items()) == 4
    assert "1 DICOM file without an image" in source.facts.warnings[0]
    assert "4 DICOM files say" in source.facts.warnings[1]
    assert PLANTED not in str(source.facts).lower()


def test_unlabelled_images_of_a_tested_patient_are_not_used(study: Path, tmp_path: Path) -> None:
    for number in range(40):
        tags = {**WINDOWS, "PatientID": f"{PLANTED}id{number}"}
        made_up_study.write(tmp_path / "more" / f"{number}.dcm", detector(900 + number), tags)
    config = DataConfig(source=str(study), unlabelled=str(tmp_path / "more"), cache_px=32)
    data = build_dataset(source_registry.open_all(config), config)
    groups: dict[str, set[str]] = {}
    for row in data.images:
        groups.setdefault(row["split"], set()).add(str(row["group"]))
    assert groups["unlabelled"] == groups["train"]
    held = len(groups["val"] | groups["test"])
    assert any(f"{held} images without a label" in text for text in data.facts["warnings"])


# --- a whole build --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def out(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small whole build of the study. What it prints is kept beside it."""
    folder = tmp_path_factory.mktemp("dicom") / "out"
    settings = (
        "data.input_px=32",
        "distil.epochs=1",
        "qat.epochs=0",
        "views.per_image=1",
        "bench.runs=5",
        "bench.min_seconds=0.05",
        "data.golden=8",
        "data.calibration=32",
        "certify.max_drop=1",
        "certify.min_agreement=0",
    )
    command = ["build", "--data", str(study), "--teacher", "none", "--student", "mobilenetv2_035"]
    command += [part for text in settings for part in ("--set", text)]
    assert cli.main([*command, "--profile", "pi4", "--out", str(folder)]) == 0
    return folder


def written(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, with the members of archives."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    for member in archive.namelist():
                        yield f"{path.name}/{member}", archive.read(member)


def test_a_study_builds_certifies_and_leaks_no_name(
    out: Path, study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = json.loads((out / "report.json").read_text())
    assert report["certificate"]["passed"]
    assert report["data"]["groups"]["train_and_test"] == 0
    assert report["data"]["groups"]["train_and_val"] == 0
    assert report["data"]["groups_by"] == "PatientID"
    assert len(report["data"]["warnings"]) == 2
    assert "80 file names" in " ".join(report["data"]["warnings"])
    files = list(written(out))
    assert any(name.startswith("bundle.zip/") for name, _ in files)
    dates = [f"19350{1 + number}17" for number in range(9)]
    dates += [f"20{10 + year}0{month}23" for year in range(10) for month in (1, 2, 3)]
    # A date may be part of a longer number by chance.
    identifying = "|".join(dates).encode() + b"|" + PLANTED.encode()
    for name, data in files:
        found = re.search(rb"(?<![0-9.])(%s)(?![0-9])" % identifying, data.lower())
        assert not found, (name, found)
        assert PLANTED not in name.lower()
    # Again, with what the terminal shows: from the store, with a broken file, and by `report`.
    for command in (
        ["build", "--data", str(study), "--until", "data", "--out", str(out)],
        ["report", str(out)],
        ["verify", str(out)],
    ):
        cli.main(command)
    broken = next(study.rglob("IM0"))
    whole = broken.read_bytes()
    for data in (whole[:-100], whole[:200], whole[:132] + b"\xff" * 999):
        broken.write_bytes(data)
        assert cli.main(["build", "--data", str(study), "--until", "data", "--out", str(out)]) == 2
    broken.write_bytes(whole)
    said = "".join(capfd.readouterr())
    assert re.search(r"patient-00\d\d/IM0: a DICOM file that is damaged", said)
    assert PLANTED not in said.lower()


def test_the_data_set_holds_pydicoms_pixels(study: Path) -> None:
    """Where nothing is resized, to the bit: cache_px is the images' own size."""
    config = DataConfig(source=str(study), cache_px=32)
    source = source_registry.open_all(config)
    assert isinstance(source, DicomSource)
    data: Images = build_dataset(source, config)
    assert (data.px, data.bits) == (24, 16)
    for row, image in zip(data.images, datasets.pixels(data), strict=True):
        own = pydicom.dcmread(source.path(row["name"]))
        shown = pixels.apply_voi_lut(own.pixel_array, own)
        np.testing.assert_array_equal(image[0], 65535 - np.rint(shown / 4095 * 65535))
