"""The label files of five public chest X-ray sets: headers as published, rows that are made up."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.core.errors import DataError, UnknownName
from edgekd.data import dataset_builder
from edgekd.data.label_source import LabelSource
from edgekd.data.source_registry import open_source
from edgekd.data.sources import Item
from edgekd.settings.recipe import DataConfig

FOURTEEN = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,"
    "Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,"
    "Support Devices"
)
VINDR = (
    "Aortic enlargement,Atelectasis,Calcification,Cardiomegaly,Clavicle fracture,Consolidation,"
    "Edema,Emphysema,Enlarged PA,ILD,Infiltration,Lung Opacity,Lung cavity,Lung cyst,"
    "Mediastinal shift,Nodule/Mass,Pleural effusion,Pleural thickening,Pneumothorax,"
    "Pulmonary fibrosis,Rib fracture,Other lesion,COPD,Lung tumor,Pneumonia,Tuberculosis"
)
NIH = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
PADCHEST = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,"
    "ViewPosition_DICOM,Projection,MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,"
    "PhotometricInterpretation_DICOM,PixelRepresentation_DICOM,PixelAspectRatio_DICOM,"
    "SpatialResolution_DICOM,BitsStored_DICOM,WindowCenter_DICOM,WindowWidth_DICOM,Rows_DICOM,"
    "Columns_DICOM,XRayTubeCurrent_DICOM,Exposure_DICOM,ExposureInuAs_DICOM,ExposureTime,"
    "RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,Labels,Localizations,"
    "LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS"
)


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(noise).save(path)


def table(path: Path, header: str, rows: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([header, *rows]) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def opened(text: Path, **settings: object) -> LabelSource:
    source = open_source(str(text), DataConfig(**settings))  # type: ignore[arg-type]
    assert isinstance(source, LabelSource)
    return source


def told(source: LabelSource) -> dict[str, Item]:
    return {item.name: item for item in source.items()}


def marks(header: str, **cells: str) -> str:
    """A row of marks: those named, with "_" for a space, and nothing in the other columns."""
    by_name = {name.replace("_", " "): cell for name, cell in cells.items()}
    assert by_name.keys() <= set(header.split(","))
    return ",".join(by_name.get(name, "") for name in header.split(","))


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    """CheXpert-v1.0-small as it is unpacked: the paths begin with the folder's own name."""
    root = tmp_path / "CheXpert-v1.0-small"
    rows: dict[str, list[str]] = {"train": [], "valid": []}
    for number, (split, about, row) in enumerate(
        (
            ("train", "Female,68,Frontal,AP", marks(FOURTEEN, No_Finding="1.0")),
            ("train", "Female,68,Lateral,", marks(FOURTEEN, Edema="-1.0", Fracture="1.0")),
            ("train", "Male,40,Frontal,PA", marks(FOURTEEN, Edema="1.0", Fracture="0.0")),
            ("valid", "Male,73,Frontal,AP", marks(FOURTEEN, Edema="1.0", Fracture="1.0")),
        )
    ):
        image = f"{split}/patient{number // 2 + 1:05}/study1/view{number % 2 + 1}_frontal.jpg"
        picture(root / image, number)
        rows[split].append(f"CheXpert-v1.0-small/{image},{about},{row}")
    for split, lines in rows.items():
        table(root / f"{split}.csv", f"Path,Sex,Age,Frontal/Lateral,AP/PA,{FOURTEEN}", lines)
    return root


def test_chexpert(chexpert: Path) -> None:
    with pytest.raises(DataError, match=r"line 3: Edema is '-1\.0', which") as error:
        opened(chexpert, labels=("Edema", "Fracture"))
    assert "cells that say so: 1 (Edema 1)" in error.value.what
    assert "data.uncertain=ignore" in error.value.next_step
    settings = {"uncertain": "ignore", "labels": ("Fracture", "Edema", "No Finding")}
    source = opened(chexpert, **settings)
    assert source.labels == ["Fracture", "Edema", "No Finding"]
    first, second, third, valid = source.items()
    assert [item.findings for item in source.items()] == [
        ("No Finding",),
        ("Fracture",),
        ("Edema",),
        ("Fracture", "Edema"),
    ]
    assert (second.uncertain, third.uncertain) == (("Edema",), ())
    assert (first.group, second.group, third.group) == ("patient00001",) * 2 + ("patient00002",)
    assert [item.split for item in source.items()] == ["train", "train", "train", "val"]
    assert list(source.column("view").values()) == ["AP", "Lateral", "PA", "AP"]
    assert list(source.column("sex").values()) == ["Female", "Female", "Male", "Male"]
    assert list(source.column("age").values()) == ["68", "68", "40", "73"]
    assert source.load(valid).startswith(b"\xff\xd8")
    assert "1901.07031" in source.facts.source
    assert told(opened(chexpert / "train.csv", **settings)) == told(source)
    # A single file says nothing of splits, and the folder may have another name.
    alone = chexpert.rename(chexpert.with_name("chex"))
    (alone / "valid.csv").unlink()
    assert {item.split for item in opened(alone / "train.csv", **settings).items()} == {None}


def test_labels_that_are_not_asked_for_need_not_be_certain(chexpert: Path) -> None:
    source = opened(chexpert, labels=("Fracture", "No Finding"))
    assert all(not item.uncertain for item in source.items())
    with pytest.raises(UnknownName, match="'Fractur'"):
        opened(chexpert, labels=("Fractur", "Edema"))


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    names = ",".join(sorted(FOURTEEN.split(",")))
    table(
        tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz",
        f"subject_id,study_id,{names}",
        [
            f"10000032,50414267,{marks(names, Edema='1.0')}",
            f"10000032,53189527,{marks(names, Edema='0.0', Fracture='-1.0')}",
            f"10000764,57375967,{marks(names, Fracture='1.0')}",
        ],
    )
    rows = [
        ("02aa804e", "50414267", "10000032", "train"),
        ("174413ec", "50414267", "10000032", "train"),
        ("2a2277a9", "53189527", "10000032", "train"),
        ("096052b7", "57375967", "10000764", "validate"),
        ("ffffffff", "59999999", "10000999", "test"),  # a study without labels
    ]
    table(
        tmp_path / "mimic-cxr-2.0.0-split.csv.gz",
        "dicom_id,study_id,subject_id,split",
        [",".join(row) for row in rows],
    )
    table(
        tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz",
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,"
        "StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
        "PatientOrientationCodeSequence_CodeMeaning",
        [
            f"{row[0]},{row[2]},{row[1]},CHEST (PA AND LAT),{view},3056,2544,21800506,213014.531,"
            "CHEST (PA AND LAT),postero-anterior,Erect"
            for row, view in zip(rows, ("PA", "LATERAL", "AP", "", "PA"), strict=True)
        ],
    )
    for number, (dicom, study, subject, _) in enumerate(rows[:4]):
        picture(tmp_path / "files" / "p10" / f"p{subject}" / f"s{study}" / f"{dicom}.jpg", number)
    return tmp_path


def test_mimic_cxr_jpg(mimic: Path) -> None:
    settings = {"labels": ("Edema", "Fracture"), "uncertain": "soft:0.55-0.85"}
    source = opened(mimic, **settings)
    assert source.items()[0].name == "files/p10/p10000032/s50414267/02aa804e.jpg"
    assert [item.findings for item in source.items()] == [("Edema",), ("Edema",), (), ("Fracture",)]
    assert [item.uncertain for item in source.items()] == [(), (), ("Fracture",), ()]
    assert [item.split for item in source.items()] == ["train", "train", "train", "val"]
    assert [item.group for item in source.items()] == ["10000032"] * 3 + ["10000764"]
    assert list(source.column("view").values()) == ["PA", "LATERAL", "AP"]
    assert any(
        "1 images belong to studies without labels" in said for said in source.facts.warnings
    )
    labels = mimic / "mimic-cxr-2.0.0-chexpert.csv.gz"
    assert told(opened(labels, **settings)) == told(source)
    (mimic / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    with pytest.raises(DataError, match="of studies") as error:
        opened(labels, **settings)
    assert "mimic-cxr-2.0.0-split.csv.gz" in error.value.next_step


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    rows = []
    for number, found in enumerate(
        ("Cardiomegaly", "Cardiomegaly|Emphysema", "No Finding", "Hernia", "Emphysema")
    ):
        name = f"{number // 2 + 1:08}_{number % 2:03}.png"
        picture(tmp_path / f"images_{number // 2 + 1:03}" / "images" / name, number)
        about = f"{number % 2},{number // 2 + 1},{58 + number},{'MF'[number // 2 % 2]},PA"
        rows.append(f"{name},{found},{about},2682,2749,0.143,0.143,")
    table(tmp_path / "Data_Entry_2017.csv", NIH, rows)
    (tmp_path / "train_val_list.txt").write_text(
        "00000001_000.png\n00000001_001.png\r\n00000003_000.png\n"
    )
    (tmp_path / "test_list.txt").write_text("00000002_000.png\n00000002_001.png")
    return tmp_path


def test_chest_xray14(nih: Path) -> None:
    source = opened(nih)
    assert source.labels == ["Cardiomegaly", "Emphysema", "Hernia"]
    assert [item.findings for item in source.items()] == [
        ("Cardiomegaly",),
        ("Cardiomegaly", "Emphysema"),
        (),
        ("Hernia",),
        ("Emphysema",),
    ]
    assert [item.group for item in source.items()] == ["1", "1", "2", "2", "3"]
    assert [item.split for item in source.items()] == ["train", "train", "test", "test", "train"]
    assert list(source.column("sex").values()) == ["M", "M", "F", "F", "M"]
    assert list(source.column("age").values()) == ["58", "59", "60", "61", "62"]
    assert list(source.column("Follow-up #").values()) == ["0", "1", "0", "1", "0"]
    (nih / "train_val_list.txt").unlink()
    with pytest.raises(DataError, match=r"train_val_list\.txt is missing"):
        opened(nih)
    (nih / "test_list.txt").unlink()
    assert {item.split for item in opened(nih / "Data_Entry_2017.csv").items()} == {None}


@pytest.fixture
def padchest(tmp_path: Path) -> Path:
    rows = []
    for number, labels in enumerate(
        (
            "['normal']",
            "\"[' pleural effusion', 'cardiomegaly ', 'pleural effusion']\"",
            "['unchanged']",
            "\"['unchanged', 'cardiomegaly']\"",
            "['exclude']",
            "",
            "[]",
        )
    ):
        cells = dict.fromkeys(PADCHEST.split(","), "")
        cells |= {"": str(number), "ImageID": f"2168_{number}.png", "ImageDir": str(number % 2)}
        cells |= {"StudyDate_DICOM": "20140915", "StudyID": f"s{number}", "Labels": labels}
        cells |= {"PatientID": f"p{number // 2}", "PatientBirth": "1950.0", "Projection": "PA"}
        cells |= {"PatientSex_DICOM": "F", "ViewPosition_DICOM": "POSTEROANTERIOR"}
        rows.append(",".join(cells.values()))
        picture(tmp_path / str(number % 2) / f"2168_{number}.png", number)
    table(tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", PADCHEST, rows)
    return tmp_path


def test_padchest(padchest: Path) -> None:
    source = opened(padchest)
    assert source.labels == ["cardiomegaly", "pleural effusion"]
    found = told(source)
    assert {name: item.findings for name, item in found.items()} == {
        "2168_0.png": (),
        "2168_1.png": ("cardiomegaly", "pleural effusion"),
        "2168_3.png": ("cardiomegaly",),
    }
    assert [item.group for item in found.values()] == ["p0", "p0", "p1"]
    assert {item.split for item in found.values()} == {None}
    (said,) = source.facts.warnings
    assert said.startswith("4 images were left out:")
    for part in ("2 without labels", "1 labelled 'exclude'", "1 labelled 'unchanged' alone"):
        assert part in said
    assert set(source.column("age").values()) == {"64"}
    assert set(source.column("sex").values()) == {"F"}
    assert set(source.column("view").values()) == {"PA"}


@pytest.mark.parametrize("cell", ["normal", "['a'", "{'a': 1}", "[1]", "[" * 5000])
def test_padchest_labels_that_are_no_list(padchest: Path, cell: str) -> None:
    path = next(padchest.glob("*.csv"))
    path.write_text(path.read_text().replace("['normal']", f'"{cell}"'))
    with pytest.raises(DataError, match="line 2: Labels is"):
        opened(padchest)


@pytest.fixture
def vindr(tmp_path: Path) -> Path:
    """Four training images of three readers each, and two test images of a consensus."""
    train, test = f"{VINDR},Other diseases,No finding", f"{VINDR},Other disease,No finding"
    votes = {
        "aa11": [{"COPD": "1"}, {"COPD": "1"}, {"No_finding": "1"}],
        "bb22": [{"COPD": "1"}, {"Other_diseases": "1"}, {"Other_diseases": "1.0"}],
        "cc33": [{"No_finding": "1"}] * 3,
    }
    rows = [
        f"{image},R{9 + reader},{marks(train, **cells)}"
        for image, each in votes.items()
        for reader, cells in enumerate(each)
    ]
    table(tmp_path / "annotations" / "image_labels_train.csv", f"image_id,rad_id,{train}", rows)
    table(
        tmp_path / "annotations" / "image_labels_test.csv",
        f"image_id,{test}",
        [f"dd44,{marks(test, Other_disease='1')}", f"ee55,{marks(test, COPD='1')}"],
    )
    for number, name in enumerate(("train/aa11", "train/bb22", "train/cc33", "test/dd44")):
        picture(tmp_path / f"{name}.png", number)
    picture(tmp_path / "test" / "ee55.png", 9)
    return tmp_path


def test_vindr_cxr(vindr: Path) -> None:
    source = opened(vindr, labels=("COPD", "Other diseases"))
    assert {name: item.findings for name, item in told(source).items()} == {
        "aa11.png": ("COPD",),
        "bb22.png": ("Other diseases",),
        "cc33.png": (),
        "dd44.png": ("Other diseases",),
        "ee55.png": ("COPD",),
    }
    assert [item.split for item in source.items()] == ["train"] * 3 + ["test"] * 2
    assert {item.group for item in source.items()} == {None}
    assert any("names no patients" in said for said in source.facts.warnings)
    with pytest.raises(DataError, match="no image has the labels 'Aortic enlargement'") as error:
        opened(vindr)
    assert """'data.labels=["COPD", "Other diseases", "No finding"]'""" in error.value.next_step
    labels = vindr / "annotations" / "image_labels_train.csv"
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([lines[0], lines[1], lines[3], *lines[4:]]) + "\n")
    with pytest.raises(DataError, match="half of the readers of aa11 gave COPD"):
        opened(vindr, labels=("COPD", "Other diseases"))


def test_vindr_cxr_of_kaggle(tmp_path: Path) -> None:
    table(
        tmp_path / "train.csv",
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max",
        [
            "aa11,No finding,14,R11,,,,",
            "aa11,No finding,14,R7,,,,",
            "aa11,Cardiomegaly,3,R10,691,1375,1653,1831",
            "bb22,Cardiomegaly,3,R9,1,1,9,9",
            "bb22,Aortic enlargement,0,R9,1,1,9,9",
            "bb22,Aortic enlargement,0,R9,2,2,9,9",
            "bb22,Cardiomegaly,3,R8,1,1,9,9",
            "bb22,Cardiomegaly,3,R10,1,1,9,9",
            "cc33,Aortic enlargement,0,R9,1,1,9,9",
        ],
    )
    for number, name in enumerate(("aa11", "bb22", "cc33")):
        picture(tmp_path / "train" / f"{name}.png", number)
    source = opened(tmp_path)
    assert source.labels == ["Aortic enlargement", "Cardiomegaly"]
    assert [item.findings for item in source.items()] == [
        (),
        ("Cardiomegaly",),
        ("Aortic enlargement",),
    ]


def test_missing_images_are_refused_or_left_out_and_counted(nih: Path) -> None:
    (nih / "images_001" / "images" / "00000001_000.png").unlink()
    with pytest.raises(DataError, match=r"1 of 5 images.*00000001_000\.png \(line 2\)") as error:
        opened(nih)
    assert "data.on_error=skip" in error.value.next_step
    source = opened(nih, on_error="skip")
    assert len(source.items()) == 4
    assert "1 images are missing and were left out: 00000001_000.png" in source.facts.warnings
    picture(nih / "images_002" / "images" / "00000001_001.png")
    with pytest.raises(DataError, match=r"line 3: 00000001_001\.png fits 2 files"):
        opened(nih, on_error="skip")


def test_a_release_becomes_a_data_set_that_divides_no_patient(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(200):
        name = f"{number // 4 + 1:08}_{number % 4:03}.png"
        picture(tmp_path / "images" / name, number)
        found = "|".join(label for label in ("Edema", "Mass") if rng.random() < 0.4)
        rows.append(f"{name},{found or 'No Finding'},0,{number // 4 + 1},50,F,PA,9,9,1,1,")
    source = opened(table(tmp_path / "Data_Entry_2017_v2020.csv", NIH, rows))
    built = dataset_builder.build_dataset(source, DataConfig())
    groups = built.facts["groups"]
    assert groups["train"] + groups["val"] + groups["test"] == 50
    assert (groups["train_and_val"], groups["train_and_test"]) == (0, 0)
    assert built.facts["groups_by"] == "column 'Patient ID'"
    assert built.facts["warnings"] == []
