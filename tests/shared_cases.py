"""The commands of the shared cases, and what is right for each: exit code, and what is named.

A word that is named is looked for in all that the command prints, without regard to upper case.
"""

from __future__ import annotations

from dataclasses import dataclass

LONG = "file name too long"
DENIED = "permission denied"
OPEN = "a quotation mark is opened"


@dataclass(frozen=True)
class Try:
    """One command, and what it must and must not do.

    `code`: exit codes of which each is right. `named`: all of it is printed. `absent`: nothing of
    it is printed. `refused`: all of it is printed when the exit code is 2. `patients`: how many the
    report counts, none of them in two splits. `unwritten`: a folder that stays empty.
    """

    command: str
    code: tuple[int, ...]
    named: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    refused: tuple[str, ...] = ("next: ",)
    patients: int = 0
    unwritten: str = ""


def check(what: str, code: int, *named: str, absent: tuple[str, ...] = ()) -> Try:
    return Try(f"edgekd check {what}", (code,), named, absent)


def network(name: str) -> Try:
    """A verdict on a network; or the refusal of one of its layers, by the layer's name."""
    return Try(f"edgekd check {name}", (0, 1, 2), (name,), refused=(name, "in module '", "next: "))


def data(what: str, code: int, *named: str, patients: int = 0) -> Try:
    """A build that reads images and stops."""
    return Try(f"edgekd build --data {what}", (code,), named, patients=patients)


def quick(what: str, code: int, *named: str) -> Try:
    """A build of the recipe quick.toml that is refused before its first stage."""
    out = what.rpartition(" --out ")[2]
    return Try(
        f"edgekd build quick.toml --data pics {what}", (code,), named, unwritten=f"{out}/store"
    )


ELSEWHERE = ("edgetpu-custom-op", "the model that it was compiled from")
COMPILER = "PATH=$PWD/bin:$PATH edgekd check"
BENCH = "PATH=$PWD/bin:$PATH edgekd bench model.tflite --profile pi4 --runs 5"
UNTIL = "--until data --out"
NEWLINE = r"'a\nb'"
SEPARATOR = r"'a\u2028b'"
NO_BUILD = "certificate.json does not exist"

CASES: dict[str, tuple[Try, ...]] = {
    "batch_signature": (
        check("with.tflite --profile coral-usb", 0, "31 of 31", "arena 144 KiB", "0.204 ms"),
        check("without.tflite --profile coral-usb", 0, "31 of 31", "arena 144 KiB", "0.204 ms"),
    ),
    "batch_signature_compiler": (
        Try(
            f"{COMPILER} with.tflite --profile coral-usb",
            (0,),
            ("31 of 31", "16.0.384591198", "15 CONV_2D: Mapped to Edge TPU"),
            ("1 part); predicted", "(predicted"),
        ),
    ),
    "compiler_table": (
        Try(
            f"{COMPILER} model.tflite --profile coral-usb",
            (0,),
            ("30 of 31", "not mapped due to some unspecified limitation"),
        ),
    ),
    "compiled_elsewhere": (
        check("compiled.tflite --profile pi4", 1, *ELSEWHERE),
        check("compiled.tflite --profile android-cpu", 1, *ELSEWHERE),
        check("compiled.tflite --profile coral-usb", 0),
    ),
    "op_version_99": (
        check("conv99.tflite --profile pi4", 1, "CONV_2D has version 99"),
        check("conv99.tflite --profile android-cpu", 1, "CONV_2D has version 99"),
    ),
    "quantize_version_3": (
        check("quantize3.tflite --profile coral-usb", 1, "QUANTIZE has version 3", " 0 of 68"),
        check("quantize3.tflite --profile pi4", 0),
    ),
    "patient_columns": tuple(
        data(f"{column}.csv {UNTIL} out_{number}", 0, patients=30)
        for number, column in enumerate(
            ("patientid", "PatientID", "patient_id", "subject_id", "group"), 1
        )
    ),
    "patient_manifest": (
        data(f"patient_id {UNTIL} out_1", 0, patients=30),
        data(f"patient_key {UNTIL} out_2", 0, patients=30),
    ),
    "chexpert": (
        data(f"published.csv {UNTIL} out_1", 2, "-1.0", "data.uncertain"),
        data(
            f"""renamed.csv {UNTIL} out_2 --set 'data.labels=["Edema", "Pneumonia"]'""",
            2,
            *("line 5", "Edema is '-1.0'", "24", "data.uncertain=ignore"),
        ),
        data(f"renamed.csv {UNTIL} out_3", 2, "Sex", "Age", "Frontal/Lateral", "AP/PA"),
        data(
            f"""certain.csv {UNTIL} out_4 --set 'data.labels=["Edema", "Pneumonia"]'""",
            0,
            patients=30,
        ),
    ),
    "twelve_bits": (data(f"pics {UNTIL} out", 0, "train/cat/005.png", "12 bits"),),
    "class_newline": (
        quick("--out out", 2, NEWLINE),
        Try("edgekd verify out", (2,), (NO_BUILD,)),
    ),
    "class_line_separator": (
        quick("--out out", 2, SEPARATOR),
        Try("edgekd verify out", (2,), (NO_BUILD,)),
    ),
    "class_two_spellings": (data(f"pics {UNTIL} out", 2, r"'Zu\u0308rich'", "'Zürich'"),),
    "class_trailing_space": (data(f"pics {UNTIL} out", 0, "warning", "'NORMAL '", "'NORMAL'"),),
    "class_two_cases": (data(f"pics {UNTIL} out", 0, "warning", "NORMAL", "Normal"),),
    "csv_long_cell": (
        data(f"labels.csv {UNTIL} out", 2, "labels.csv, line 5"),
        quick("--set distil.groups=groups.csv --until distil --out out_g", 2, "csv, line 5"),
        quick("--set distil.logs=logs.csv --until knowledge --out out_l", 2, "csv, line 5"),
    ),
    "csv_open_quote": (
        data(f"labels.csv {UNTIL} out", 2, "labels.csv, line 5", OPEN),
        quick("--set distil.groups=groups.csv --until distil --out out_g", 2, "line 5", OPEN),
        quick("--set distil.logs=logs.csv --until knowledge --out out_l", 2, "line 5", OPEN),
        data(f"short.csv {UNTIL} out_s", 2, "short.csv, line 42", OPEN),
    ),
    "unreadable": (
        data(f"root {UNTIL} out_1", 2, "root", DENIED),
        data(f"class {UNTIL} out_2", 2, "class/train/dog", DENIED),
        data(f"below {UNTIL} out_3", 2, "below/train/dog/more", DENIED),
        data(f"manifest {UNTIL} out_4", 2, "manifest/manifest.csv", DENIED),
        data(f"labels.csv {UNTIL} out_5", 2, "img", DENIED),
    ),
    "long_names": (
        data(f"$N {UNTIL} out", 2, "--data", LONG),
        data(f"long_row.csv {UNTIL} out", 2, "long_row.csv, line 82", LONG),
        data(f"labels.csv --set data.images=$N {UNTIL} out", 2, "data.images", LONG),
        data(f"pics --set data.unlabelled=$N {UNTIL} out", 2, "data.unlabelled", LONG),
        data(f"pics {UNTIL} $N", 2, "--out", LONG),
        data(f"pics {UNTIL} out --store $N", 2, "--store", LONG),
        Try("edgekd new $N", (2,), ("DIR", LONG)),
        check("$N", 2, "unknown network"),
        Try("edgekd bench $N", (2,), ("the model", LONG)),
        Try("edgekd bench $N.tflite", (2,), ("the model", LONG)),
        Try("edgekd verify $N", (2,), ("the folder or file", LONG)),
    ),
    "dropout_2": (
        quick("--set distil.drop=2 --until distil --out out", 2, "distil.drop is 2", "from 0 to"),
    ),
    "heic_beside_jpeg": (data(f"pics {UNTIL} out", 2, "train/dog", "10 images", ".heic"),),
    "late_settings": (
        quick("--set subgroups.column=nosuch --out out_1", 2, "subgroups.column", "nosuch"),
        quick("--set bench.threads=999999 --out out_2", 2, "bench.threads", "from 1 to 256"),
        quick("--set card.use=commercial --out out_3", 1, "card.data_licence"),
        quick("--set qat.pin=foo --out out_4", 2, "qat.pin", "EDGE=PERCENTILE"),
    ),
    "bounds": tuple(
        quick(f"--set {setting} --until distil --out out_{number}", 2, key, "from 0 to")
        for number, (setting, key) in enumerate(
            (
                ("views.flip=7", "views.flip is 7"),
                ("views.erase=4", "views.erase is 4"),
                ("distil.label_smoothing=3", "distil.label_smoothing is 3"),
                ("distil.warmup=5", "distil.warmup is 5"),
                ("distil.ramp=9", "distil.ramp is 9"),
            ),
            1,
        )
    ),
    "bench_in_bundle": (
        Try("edgekd build quick.toml --data pics --out out", (0,)),
        Try("python3 -m zipfile -e out/bundle.zip bundle", (0,)),
        Try("edgekd verify bundle", (0,)),
        Try("edgekd bench bundle --runs 5", (0,), ("bundle_measured/bench/",)),
        Try("edgekd verify bundle", (0,)),
    ),
    "nih_release": (data(f"Data_Entry_2017.csv {UNTIL} out", 0, patients=40),),
    "nih_header": (data(f"entries.csv {UNTIL} out", 0, patients=30),),
    "kaggle_doubled": (data(f"chest_xray {UNTIL} out", 0),),
    "header_space": (data(f"labels.csv {UNTIL} out", 0),),
    "out_empty": (
        Try(f"edgekd build --data pics {UNTIL} ''", (2,), ("--out",), unwritten="store"),
    ),
    "recipe_bom": (Try(f"edgekd build bom.toml --data pics {UNTIL} out", (0,)),),
    "check_other_files": (
        check("model.onnx", 2, "model.onnx: an ONNX model without operators", ".tflite"),
        check("built", 0, "built/model.tflite"),
    ),
    "network_names": (
        network("nf_resnet50"),
        network("nfnet_f0"),
        network("eca_nfnet_l0"),
        network("resnetv2_50x1_bit"),
        network("tf_efficientnet_cc_b0_4e"),
        network("lambda_resnet26t"),
        check("tf_efficientnet_lite0.in1k", 0),
    ),
    "throttled_during": (
        Try(f"rm -f bin/asked; {BENCH}", (0,), ("throttled", "0x0 before", "0x50000 after")),
    ),
    "throttled_long_ago": (Try(BENCH, (0,), absent=("throttled", "voltage")),),
}
