"""The recipe's tables [data] and [views]: the images, and the random views used in training."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from edgekd.core.resizer_names import Resizer
from edgekd.settings.setting_types import Share

# The policies of data.uncertain; "soft" has the ends of an interval within 0 and 1.
UNCERTAIN = r"^(refuse|ignore|zero|one|soft:(0(\.\d+)?|1(\.0+)?)-(0(\.\d+)?|1(\.0+)?))$"


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how they become training, validation and test pixels."""

    source: Annotated[
        str,
        Meta(
            min_length=1,
            description="Where the images come from: a folder, FILE.csv, or the name of a data "
            'source such as "phantom", "elpv" or "medmnist:NAME".',
        ),
    ] = "phantom"
    images: Annotated[
        str,
        Meta(
            description="For a CSV of labels: the folder that its file names are relative to. "
            "Empty: the folder of the CSV."
        ),
    ] = ""
    labels: Annotated[
        tuple[str, ...],
        Meta(
            description="For a CSV with several labels per image: the labels to use, in this "
            "order. Empty: all of them."
        ),
    ] = ()
    unlabelled: Annotated[
        str,
        Meta(
            description="A folder of images without labels. The teacher labels them, the student "
            "learns from them, and so does the head of a frozen teacher (teacher.self_training)."
        ),
    ] = ""
    # 96 keeps MobileNetV2 under 10 ms on a Pi 4. Below 32 a network of stride 32 has no pixel left.
    input_px: Annotated[
        int, Meta(ge=32, le=1024, description="Input side of the student, in pixels.")
    ] = 96
    cache_px: Annotated[
        int,
        Meta(
            ge=32,
            le=2048,
            description="Decoded images are kept at this side in pixels, or at the largest image's "
            "shorter side if that is smaller.",
        ),
    ] = 224
    cache: Annotated[
        Literal["pixels", "none"],
        Meta(
            description='"pixels": decoded images are kept in the store. "none": worker processes '
            "decode them whenever they are needed, for sets whose pixels do not fit on the disk."
        ),
    ] = "pixels"
    # Image libraries of apps deliver three channels, and MediaPipe accepts nothing else. "1" is for
    # those who write the camera code themselves.
    channels: Annotated[
        Literal["3", "1", "auto"],
        Meta(
            description='Input channels of the student. "auto": 1 if every image is grey, '
            "otherwise 3."
        ),
    ] = "3"
    # Squashing loses no pixel at the edges of an X-ray.
    fit: Annotated[
        Literal["squash", "crop", "pad"],
        Meta(description="How an image that is not square is made square."),
    ] = "squash"
    bits: Annotated[
        int,
        Meta(
            ge=0,
            le=16,
            description="Bits of the values in grey images of more than 8 bits; brighter values "
            "become white. 0: as each file says, and where it says nothing, decided once from all "
            "images.",
        ),
    ] = 0
    window: Annotated[
        Literal["file", "percentiles", "bits"],
        Meta(
            description='How the values of DICOM files become grey levels. "file": by the window '
            'of the file, or its stored bits if it has none. "percentiles": from 1 % to 99 % of '
            'each image\'s values. "bits": by the stored bits.'
        ),
    ] = "file"
    window_number: Annotated[
        int,
        Meta(ge=1, le=99, description="Which of the windows in a DICOM file is used."),
    ] = 1
    split: Annotated[
        Literal["random", "time"],
        Meta(
            description="How images are split if the source does not divide them. "
            '"random": stratified by class. "time": the patients of the latest studies are tested '
            "(StudyDate of DICOM)."
        ),
    ] = "random"
    val_share: Annotated[
        float,
        Meta(ge=0.01, le=0.5, description="Share of the training images used for validation."),
    ] = 0.1
    test_share: Annotated[
        float,
        Meta(
            ge=0.01,
            le=0.5,
            description="Share of the images used for testing, if the source has no test split.",
        ),
    ] = 0.15
    group_column: Annotated[
        str,
        Meta(
            description="The column of a CSV of labels, or of a folder's manifest.csv, that names "
            "the group of each image. All images of a group stay in one split. "
            '"auto": the first column that is known to hold groups, such as patient_id, else '
            "folders that name a patient. Empty: no groups."
        ),
    ] = "auto"
    group_pattern: Annotated[
        str,
        Meta(
            description="A regular expression that finds each image's group in its path, such as "
            "`patient\\d+`: its first group in parentheses, or all that it matches."
        ),
    ] = ""
    uncertain: Annotated[
        str,
        Meta(
            pattern=UNCERTAIN,
            examples=["refuse", "ignore", "zero", "one", "soft:0.55-0.85"],
            description="What a label of -1 (uncertain) means in a CSV with several labels per "
            'image. "refuse": stop. "ignore", "zero", "one": it is not trained on, or counts as 0 '
            'or 1 (Irvin et al. 2019, arXiv 1901.07031). "soft:0.55-0.85": training uses a '
            "probability drawn from that interval (Pham et al. 2021, arXiv 1911.06475).",
        ),
    ] = "refuse"
    on_error: Annotated[
        Literal["refuse", "skip"],
        Meta(description="What to do with an image that cannot be read."),
    ] = "refuse"
    duplicates: Annotated[
        Literal["refuse", "drop"],
        Meta(description="What to do if the same image is in two splits or in two classes."),
    ] = "refuse"
    limit: Annotated[
        int,
        Meta(
            ge=0, le=10**9, description="Use at most this many images per class and split. 0: all."
        ),
    ] = 0
    calibration: Annotated[
        int,
        Meta(
            ge=8,
            le=65_536,
            description="Number of training images that initialise the activation ranges of QAT.",
        ),
    ] = 256
    golden: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="Number of test images that are shipped with the model, to check devices.",
        ),
    ] = 32


@dataclasses.dataclass(frozen=True)
class ViewsConfig:
    """The random views that teacher and student see. Ranges are half-widths around no change."""

    per_image: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="Distinct views per image. Epoch e uses view e modulo this number.",
        ),
    ] = 8
    plain: Annotated[
        bool,
        Meta(
            description="The first view of each image is the image itself, without any change, as "
            "the deployed network sees it."
        ),
    ] = False
    scale: Annotated[
        float, Meta(ge=0, le=0.9, description="The zoom is drawn from 1 - scale to 1 + scale.")
    ] = 0.15
    shift: Annotated[
        Share, Meta(description="Largest shift in either direction, as a share of the side.")
    ] = 0.08
    rotate: Annotated[
        float, Meta(ge=0, le=180, description="Largest rotation either way, in degrees.")
    ] = 8.0
    aspect: Annotated[
        float, Meta(ge=0, le=2, description="Largest change of the aspect ratio, as a natural log.")
    ] = 0.08
    area: Annotated[
        Share,
        Meta(
            description="Smallest share of the image's area that a crop shows, with sides in a "
            "ratio of 3:4 to 4:3, in place of scale, shift and aspect; 0: no such crop "
            "(Szegedy et al. 2015, arXiv 1409.4842)."
        ),
    ] = 0.0
    flip: Annotated[Share, Meta(description="Probability of a horizontal mirror image.")] = 0.5
    brightness: Annotated[
        Share, Meta(description="Largest value added to or taken from pixels in 0..1.")
    ] = 0.15
    contrast: Annotated[
        Share, Meta(description="The contrast factor is drawn from 1 - contrast to 1 + contrast.")
    ] = 0.25
    gamma: Annotated[
        float, Meta(ge=0, le=3, description="Largest change of gamma, as a natural log.")
    ] = 0.25
    blur: Annotated[Share, Meta(description="Probability of a blur over 3 x 3 pixels.")] = 0.1
    noise: Annotated[
        Share,
        Meta(description="Largest standard deviation of Gaussian noise on pixels in 0..1."),
    ] = 0.0
    erase: Annotated[
        Share,
        Meta(
            description="Probability that a rectangle is made grey "
            "(random erasing, Zhong et al. 2017, arXiv 1708.04896)."
        ),
    ] = 0.0
    mixup: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="Two images are mixed by a share drawn from Beta(mixup, mixup); 0: never "
            "(Zhang et al. 2018, arXiv 1710.09412).",
        ),
    ] = 0.0
    resizers: Annotated[
        tuple[Resizer, ...],
        Meta(
            min_length=1,
            description="Resizers of apps that the student trains on, one drawn for each view. The "
            "images that set the ranges before int8 training are resized in the same ways. "
            "Validation and test images are always resized by Pillow, and so are the teacher's.",
        ),
    ] = (Resizer.PILLOW,)
