"""Several labels for one image: their CSV, their splits, their metrics, and one whole build."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.app import build, cli
from edgekd.core.errors import DataError, EdgeKDError, RecipeError, UnknownName
from edgekd.data import dataset_builder, source_registry
from edgekd.data.phantom_source import Kind
from edgekd.data.splits import FEWEST, hold_out
from edgekd.evaluation import label_thresholds, metrics
from edgekd.settings import recipe
from edgekd.settings.recipe import DataConfig
from edgekd.tflite import model_metadata
from edgekd.tflite.int8_rules import Range
from tests.small_build import STUDENT, STUDENT_OPTIONS, TEACHER

WIDE = (
    "image,split,group,A,B\na.png,train,p1,1,0\nb.png,train,p1,1,1\nc.png,val,p2,,1\n"
    "d.png,test,p3,0,\n"
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number, name in enumerate("abcd"):
        Image.fromarray(np.full((8, 8), 40 * number, np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def csv(folder: Path, text: str) -> str:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return str(folder / "labels.csv")


def test_a_column_a_label(pictures: Path) -> None:
    source = source_registry.open_source(csv(pictures, WIDE))
    assert source.labels == ["A", "B"]
    assert [item.findings for item in source.items()] == [("A",), ("A", "B"), ("B",), ()]
    assert [item.split for item in source.items()] == ["train", "train", "val", "test"]
    assert [item.group for item in source.items()] == ["p1", "p1", "p2", "p3"]


def test_labels_in_one_cell_as_chestxray14_writes_them(pictures: Path) -> None:
    text = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Size[x,y],\n"
        "a.png,Mass|Edema,0,1,9,9,\nb.png,No Finding,0,1,9,9,\nc.png,Edema,0,2,9,9,\n"
        "d.png,Hernia,0,3,9,9,\n"
    )
    source = source_registry.open_source(csv(pictures, text))
    assert source.labels == ["Edema", "Hernia", "Mass"]
    assert [item.findings for item in source.items()] == [
        ("Edema", "Mass"),
        (),
        ("Edema",),
        ("Hernia",),
    ]
    some = source_registry.open_source(csv(pictures, text), DataConfig(labels=("Mass", "Edema")))
    assert [item.findings for item in some.items()] == [("Mass", "Edema"), (), ("Edema",), ()]


def test_one_class_an_image_from_elsewhere(
    pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    away = tmp_path_factory.mktemp("csv")
    source = source_registry.open_source(
        csv(away, "image,label\na.png,cat\nb.png,dog\n"), DataConfig(images=str(pictures))
    )
    assert source.labels is None
    assert [(item.label, item.findings) for item in source.items()] == [
        ("cat", None),
        ("dog", None),
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (WIDE.replace("c.png,val,p2,,1", "c.png,val,p2,,-1"), ("line 4", "B is '-1'", "uncertain")),
        (
            WIDE.replace("b.png,train,p1,1,1", "b.png,train,p1,yes,1"),
            ("line 3", "'yes'", "data.labels"),
        ),
        (WIDE.replace("d.png", "b.png"), ("line 5", "b.png is also in line 3")),
        (WIDE.replace("d.png", "e.png"), ("1 of 4 images", "e.png (line 5)", "data.images")),
        (WIDE.replace("d.png", "../d.png"), ("line 5", "not a path below")),
        (WIDE.replace("c.png,val", "c.png,vel"), ("line 4", "'vel'", "train, val, test")),
        (
            WIDE.replace("c.png,val,p2,,1", "c.png,val,p2,1,0").replace(
                "d.png,test,p3,0", "d.png,test,p3,1"
            ),
            ("every image has", "'A'"),
        ),
        (WIDE.replace("1,1\n", "1,0\n").replace(",,1\n", ",,0\n"), ("no image has", "'B'")),
        (WIDE.replace(",A,B", ",A,A"), ("two columns", "'A'")),
        (WIDE + "e.png,train\n", ("line 6", "5 columns")),
        ("image,A\na.png,1\nb.png,0\n", ("1 labels", "two are needed", "column 'label'")),
        ("picture,A,B\na.png,1,0\n", ("no column 'image'",)),
        ("image,label\na.png,\nb.png,x\n", ("line 2", "label is empty")),
        ("", ("no rows below its header",)),
    ],
)
def test_a_bad_csv_is_named_by_file_and_line(
    pictures: Path, text: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(DataError) as found:
        source_registry.open_source(csv(pictures, text))
    assert "labels.csv" in str(found.value)
    for part in parts:
        assert part in str(found.value)


def test_labels_that_are_not_there_and_labels_without_a_csv(pictures: Path) -> None:
    with pytest.raises(UnknownName, match="'C'"):
        source_registry.open_source(csv(pictures, WIDE), DataConfig(labels=("A", "C")))
    with pytest.raises(DataError, match="belongs to a CSV"):
        source_registry.open_source("phantom", DataConfig(labels=("A",)))


def test_a_label_that_a_split_lacks_is_refused() -> None:
    class Without(type(source_registry.open_source("phantom-multi:120@16"))):  # type: ignore[misc]
        def items(self) -> list[Any]:
            return [
                item
                for item in super().items()
                if item.split == "train" or "opacity" not in item.findings
            ]

    with pytest.raises(DataError, match="test/opacity: 0"):
        dataset_builder.build_dataset(Without(120, 16, kind=Kind.SEVERAL), DataConfig())


def test_splits_share_each_label_and_divide_no_group() -> None:
    rng = np.random.default_rng(0)
    of_group = {
        str(group): tuple(
            name for name, share in zip("ABC", (0.1, 0.3, 0.6), strict=True) if rng.random() < share
        )
        for group in range(300)
    }
    groups = [str(group) for group in rng.integers(0, 300, 500)]
    labels = [of_group[group] for group in groups]
    chosen = hold_out(labels, groups, 0.2, 0, "val")
    assert not {groups[index] for index in chosen} & {
        groups[index] for index in set(range(500)) - chosen
    }
    sizes = Counter(label for own in labels for label in own)
    taken = Counter(label for index in chosen for label in labels[index])
    for label in "ABC":
        assert taken[label] >= FEWEST
        assert 0.15 < taken[label] / sizes[label] < 0.3, label


def scored(n: int = 80, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = (rng.random((n, k)) < [0.2, 0.5, 0.7]).astype(np.int64)
    return (rng.normal(0, 1, (n, k)) + labels).astype(np.float32), labels


def test_figures_of_each_label() -> None:
    logits, labels = scored()
    body = metrics.evaluate(logits, labels)
    alone = [metrics.binary_auc(logits[:, k], labels[:, k] == 1) for k in range(3)]
    assert [row.auc for row in body.per_label] == alone
    assert body.auc == pytest.approx(np.mean(alone))
    assert body.top1 == pytest.approx(((logits >= 0) == labels).mean())
    for row in body.per_label:
        low, high = row.auc_ci95
        assert low < row.auc < high
    counts = metrics.resamples(labels, 3, draws=20)
    draws = metrics.resampled_label_aucs(logits, labels, counts)
    for draw, count in enumerate(counts):  # counting an image twice is having it twice
        rows = np.repeat(np.arange(len(labels)), count)
        assert draws[:, draw] == pytest.approx(metrics.label_aucs(logits[rows], labels[rows]))


def test_a_change_counts_an_image_once_however_many_of_its_labels_flip() -> None:
    labels = np.zeros((30, 3), np.int64)
    labels[:15] = 1
    before = np.where(labels == 1, 1.0, -1.0).astype(np.float32)
    after = before.copy()
    after[:4] *= -1  # all three labels of four images
    change = metrics.change(before, after, labels)
    assert change.top1 == pytest.approx(-4 / 30)
    assert change.top1_p == metrics.sign_test(4, 0) == 0.125
    assert metrics.flips(before, after, labels).flips_bad == 12


def test_divergence_is_the_sum_of_the_labels() -> None:
    one, other = scored()[0][:5].astype(np.float64), scored()[0][5:10].astype(np.float64)
    p, q = metrics.sigmoid(other), metrics.sigmoid(one)
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(1)
    assert metrics.divergence(one, other, "many") == pytest.approx(expected)


def test_a_threshold_lies_between_two_codes_where_sensitivity_and_specificity_are_best() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random((400, 2)) < 0.3).astype(np.int64)
    codes = np.clip(
        np.rint(rng.normal(0, 12, (400, 2)) + 30 * labels + [10, -40]), -128, 127
    ).astype(np.int8)
    grid = Range(0.05, 3)
    fitted = label_thresholds.fit(codes, labels, ["a", "b"], grid)
    p = label_thresholds.probabilities(codes, label_thresholds.rule(fitted.per_label), grid)
    for k, row in enumerate(fitted.per_label):
        said = p[:, k] >= row.threshold
        has = labels[:, k] == 1
        index = said[has].mean() - said[~has].mean()
        every = [
            (codes[has, k] >= c).mean() - (codes[~has, k] >= c).mean() for c in range(-128, 128)
        ]
        assert index == pytest.approx(max(every))
        assert np.abs(p[:, k] - row.threshold).min() > 1e-4  # no code is on it
    judged = label_thresholds.judge(fitted, codes, labels, grid).per_label[0]
    assert judged.ece.after < judged.ece.before


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("distil.losses.dkd=1", "per_label"),
        ('teacher.others=["resnet18"]', "teacher.others"),
        ("distil.answers=corrected", "corrected"),
        ("distil.logs=x.csv", "distil.logs"),
    ],
)
def test_what_needs_one_class_is_refused_before_anything_runs(setting: str, part: str) -> None:
    with pytest.raises(RecipeError, match="several labels") as found:
        build.job(recipe.load(None, [setting, "data.source=phantom-multi:120@40"]), "pi4")
    assert part in str(found.value)


# One epoch of everything, with a cut, on 120 radiographs that show none to three findings.
SMALL = [
    "build",
    "--profile",
    "pi4",
    "--data",
    "phantom-multi:120@40",
    "--teacher",
    TEACHER,
    "--student",
    STUDENT,
    *(
        part
        for text in (
            STUDENT_OPTIONS,
            "data.input_px=32",
            "teacher.epochs=1",
            "distil.epochs=1",
            "prune.ratio=0.25",
            "prune.steps=1",
            "prune.epochs=1",
            "qat.epochs=1",
            "views.per_image=1",
            "bench.runs=5",
            "bench.min_seconds=0.05",
            "data.golden=8",
            "data.calibration=32",
            "certify.max_drop=1",
            "certify.min_agreement=0.9",
        )
        for part in ("--set", text)
    ),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("several") / "out"
    assert cli.main([*SMALL, "--out", str(out)]) == 0
    return out


def test_the_whole_line(built: Path) -> None:
    body = json.loads((built / "report.json").read_text())
    assert body["data"]["labels"] == "many"
    assert body["accuracy"]["metric"] == "label_decisions"
    assert [row["stage"] for row in body["accuracy"]["waterfall"]] == [
        "teacher",
        "student",
        "pruned",
        "qat",
        "onnx",
        "tflite",
    ]
    assert all(
        [part["positives"] for part in row["per_label"]] == [9, 13, 12]
        for row in body["accuracy"]["waterfall"]
    )
    assert body["models"]["student"]["losses"]["per_label"] == 0.9
    assert [row["label"] for row in body["confidence"]["per_label"]] == body["data"]["classes"]
    certificate = json.loads((built / "certificate.json").read_text())
    assert certificate["passed"] is True
    assert certificate["end_to_end"]["answers"] == "label decisions"
    with np.load(built / "golden.npz", allow_pickle=False) as golden:
        assert golden["labels"].shape == golden["logits"].shape == (8, 3)
        share = float(((golden["logits"] >= 0) == golden["labels"]).mean())
    assert body["bench"][0]["golden"]["argmax_agreement"] == 1
    assert body["bench"][0]["golden"]["top1"] == pytest.approx(share)
    page = (built / "report.html").read_text()
    assert "Each label" in page
    assert "Threshold of each label" in page


def test_the_bundle_says_several_labels_and_its_sample_shows_them(built: Path) -> None:
    bundle = built / "bundle"
    contract = json.loads((bundle / "deployment.json").read_text())
    fitted = json.loads((bundle / "confidence.json").read_text())
    assert contract["output"]["kind"] == "labels"
    assert contract["confidence"]["thresholds"] == [row["threshold"] for row in fitted["per_label"]]
    inside = model_metadata.files_of((bundle / "model.tflite").read_bytes())
    assert len(set(inside["score_calibration.csv"].decode().split("\n"))) == 3  # a sigmoid a label
    golden = json.loads((bundle / "golden" / "golden.json").read_text())["images"]
    assert all(row["answer"] == (" + ".join(row["set"]) or "no label") for row in golden)
    assert cli.main(["verify", str(built / "bundle.zip")]) == 0
    pictures = [str(bundle / row["file"]) for row in golden]
    done = subprocess.run(
        [sys.executable, str(bundle / "samples" / "pi" / "classify.py"), *pictures],
        text=True,
        capture_output=True,
        check=True,
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["set"] for row in said] == [row["set"] for row in golden]
    assert "labels that may occur together" in (bundle / "README.md").read_text()


def test_verify_works_it_out_again_and_sees_other_labels(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", str(built)]) == 0
    capsys.readouterr()
    labels = built / "labels.txt"
    kept = labels.read_text()
    labels.write_text("".join(reversed(kept.splitlines(keepends=True))))
    try:
        assert cli.main(["verify", str(built)]) == 1
        assert "labels.txt" in capsys.readouterr().out
    finally:
        labels.write_text(kept)


def test_errors_are_of_one_family(pictures: Path) -> None:
    with pytest.raises(EdgeKDError):
        source_registry.open_source(str(pictures / "nothing.csv"))
