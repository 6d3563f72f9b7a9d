"""One DICOM file: its grey levels, and the few facts of its header that a data set needs.

Values become grey levels by DICOM PS3.3, C.11: the modality LUT or rescale slope and intercept
first, then a window or a VOI LUT. Only the tags that this needs are ever parsed, so that no message
about a damaged file can quote the patient's.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekd.core.errors import DataError, MissingExtra
from edgekd.data.bit_depth import FULL, INTEGERS, SCALED, Wide
from edgekd.data.depth_record import WindowKind
from edgekd.data.pixel_rules import Window

if TYPE_CHECKING:
    from pydicom import Dataset

EXTRA = "dicom"
_SKIP = "replace or remove it, or build with --set data.on_error=skip"

# What decoding reads.
_PIXEL_TAGS = [
    "SOPClassUID",
    "Modality",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
]


# What pydicom and numpy raise for tags whose values do not fit together.
_INVALID = (
    *(ValueError, IndexError, KeyError, TypeError, AttributeError),
    *(ArithmeticError, NotImplementedError),
)
# Values of Modality for reports, presentation states, plans, signals and the like (PS3.3,
# C.7.3.1.1.1).
_DOCUMENTS = frozenset(
    {
        *("SR", "PR", "KO", "DOC", "ANN", "REG", "FID", "RWV", "PLAN", "STAIN", "SMR", "HD", "EPS"),
        *("AU", "ECG", "RESP", "RTSTRUCT", "RTPLAN", "RTRECORD", "RTINTENT", "CTPROTOCOL"),
    }
)
# Black and white of `WindowKind.PERCENTILES`. The outermost 1 % are markers, collimator edges and
# direct exposure, which would take up most of the range.
PERCENTILES = (1.0, 99.0)


def read(
    data: bytes, name: str, window: Window, max_pixels: int
) -> NDArray[np.uint8] | Wide | None:
    """The image of a DICOM file: uint8 [height, width, 3] for colour, else grey.

    Grey is `Wide`, or uint8 where the file's values are bytes that nothing has to change.
    Returns None when the bytes are no DICOM file. Raises DataError, with `name`, for a file without
    an image or with several frames, for one that is damaged or has more than `max_pixels` pixels,
    and for a missing window; MissingExtra without pydicom.
    """
    found = _parsed(io.BytesIO(data), _PIXEL_TAGS, name)
    if found is None:
        return None
    _check(found, name, max_pixels)
    stored = _decoded(found, name)
    photometric = str(found.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        return _palette(stored, found, name)
    if stored.ndim == 3:
        return stored if stored.dtype == np.uint8 else (stored >> 8).astype(np.uint8)
    try:
        return _grey(stored, found, window, name)
    except _INVALID:
        raise DataError(
            f"{name}: its window, its rescaling or a lookup table is not valid DICOM",
            "build with --set data.window=bits, or correct the file",
        ) from None


def display_values(
    stored: NDArray[Any], found: Dataset, window: Window
) -> tuple[NDArray[Any], float, float]:
    """The values to show, [height, width], and which of them are black and white.

    They are what pydicom's `apply_modality_lut` and `apply_voi_lut` give, before MONOCHROME1 is
    inverted. Raises IndexError when the file lacks the window.
    """
    from pydicom import pixels

    values = pixels.apply_modality_lut(stored, found)
    black, white = _range(found)
    if window.kind is WindowKind.PERCENTILES:
        low, high = np.percentile(values[_shown(stored, found)], PERCENTILES)
        return values, float(low), float(max(high, low + 1e-6))
    if window.kind is WindowKind.BITS or not has_window(found):
        return values, min(black, white), max(black, white)
    tables = found.get("VOILUTSequence") or []
    if window.number <= len(tables):
        depth = tables[window.number - 1].LUTDescriptor[2]
        whole = values if np.issubdtype(values.dtype, np.integer) else np.rint(values).astype(int)
        return pixels.apply_voi(whole, found, window.number - 1), 0.0, float(2**depth - 1)
    centers = found["WindowCenter"]
    if window.number > max(1, centers.VM):
        raise IndexError(window.number)
    return pixels.apply_windowing(values, found, window.number - 1), black, white


def has_window(found: Dataset) -> bool:
    """Whether a file brings a window or a VOI LUT."""
    center, width = found.get("WindowCenter"), found.get("WindowWidth")
    return bool(found.get("VOILUTSequence")) or (
        center not in (None, "") and width not in (None, "")
    )


def _windows(found: Dataset) -> int:
    """How many windows and VOI LUTs a file offers: the larger number of the two."""
    centers = found["WindowCenter"].VM if found.get("WindowCenter") not in (None, "") else 0
    return max(centers, len(found.get("VOILUTSequence") or []))


def _grey(
    stored: NDArray[Any], found: Dataset, window: Window, name: str
) -> NDArray[np.uint8] | Wide:
    inverted = found.PhotometricInterpretation == "MONOCHROME1"
    windowed = window.kind is WindowKind.FILE and has_window(found)
    if windowed and window.number > _windows(found):
        raise DataError(
            f"{name}: data.window_number is {window.number}, and the file has {_windows(found)}",
            "name a window that every file has, or build with --set data.window=percentiles",
        )
    if not windowed and window.kind is not WindowKind.PERCENTILES and _is_plain(found):
        bits = int(found.BitsStored)
        if bits == 8 and stored.dtype == np.uint8:
            return 255 - stored if inverted else stored
        # Files that state 16 bits often hold 12: the data set decides, as for PNG.
        white = None if bits == 16 else float(2**bits - 1)
        return Wide(stored, white, group=INTEGERS, inverted=inverted)
    values, black, white_value = display_values(stored, found, window)
    if black == white_value or not np.isfinite(values).all():
        raise ValueError("no range, as with a rescale slope of 0")
    share = (np.asarray(values, np.float64) - black) / (white_value - black)
    levels = np.rint(np.clip(share, 0.0, 1.0) * FULL).astype(np.uint16)
    return Wide(levels, float(FULL), group=SCALED, inverted=inverted)


def _is_plain(found: Dataset) -> bool:
    """Whether the stored values are unsigned and the modality LUT leaves them as they are."""
    return (
        int(found.PixelRepresentation) == 0
        and not found.get("ModalityLUTSequence")
        and float(found.get("RescaleSlope") or 1) == 1
        and float(found.get("RescaleIntercept") or 0) == 0
    )


def _range(found: Dataset) -> tuple[float, float]:
    """The lowest and highest value after the modality LUT that BitsStored allows, in this order.

    As pydicom's `apply_windowing` has them. With a negative slope the first is the larger one.
    """
    tables = found.get("ModalityLUTSequence")
    if tables:
        return 0.0, float(2 ** int(tables[0].LUTDescriptor[2]) - 1)
    bits = int(found.BitsStored)
    low, high = (0, 2**bits - 1)
    if int(found.PixelRepresentation):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    slope, intercept = found.get("RescaleSlope"), found.get("RescaleIntercept")
    if slope is None or intercept is None:
        return float(low), float(high)
    return float(low * slope + intercept), float(high * slope + intercept)


def _shown(stored: NDArray[Any], found: Dataset) -> NDArray[np.bool_]:
    """Which pixels are not padding (PS3.3, C.7.5.1.1.2); all of them when everything is padding."""
    padding = found.get("PixelPaddingValue")
    if padding is None:
        return np.ones(stored.shape, bool)
    ends = sorted((int(padding), int(found.get("PixelPaddingRangeLimit", padding))))
    shown = (stored < ends[0]) | (stored > ends[1])
    return shown if shown.any() else np.ones(stored.shape, bool)


def _palette(stored: NDArray[Any], found: Dataset, name: str) -> NDArray[np.uint8]:
    from pydicom import pixels

    try:
        coloured = pixels.apply_color_lut(stored, found)
    except _INVALID:
        raise DataError(f"{name}: its palette is not valid DICOM", _SKIP) from None
    wide = coloured.dtype.itemsize > 1
    return np.ascontiguousarray(coloured >> 8 if wide else coloured, np.uint8)


def _decoded(found: Dataset, name: str) -> NDArray[Any]:
    """The stored values, [height, width] or RGB [height, width, 3]."""
    from pydicom import pixels

    syntax = found.file_meta.get("TransferSyntaxUID")
    compressed = getattr(syntax, "is_compressed", False)
    if compressed and not _is_whole(found.PixelData):
        raise DataError(f"{name}: a DICOM file that is damaged or cut short", _SKIP)
    try:
        return np.asarray(pixels.pixel_array(found))
    except Exception as error:  # decoders raise what they like
        if compressed and "missing" in str(error):
            raise DataError(
                f"{name}: its pixels are compressed as {syntax.name}, and no installed package "
                "decodes that",
                f"pip install 'edgekd[{EXTRA}]'",
            ) from None
        how = f" ({syntax.name})" if compressed else ""
        raise DataError(f"{name}: a DICOM file with damaged pixels{how}", _SKIP) from None


def is_document(found: Dataset) -> bool:
    """Whether a file is of a kind that holds no image, such as a report. A damaged image is not."""
    return "Rows" not in found and str(found.get("Modality", "")).strip() in _DOCUMENTS


def _is_whole(fragments: bytes) -> bool:
    """Whether compressed pixels end where their last fragment ends (PS3.5, A.4).

    Decoders of JPEG fill the rest of a picture that is cut short, and do not tell.
    """
    at = 0
    while fragments[at : at + 4] == b"\xfe\xff\x00\xe0":
        at += 8 + int.from_bytes(fragments[at + 4 : at + 8], "little")
    return at == len(fragments)


def _check(found: Dataset, name: str, max_pixels: int) -> None:
    """Raise DataError for a file without an image, with several frames, or too large."""
    if not any(tag in found for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        if not is_document(found):
            raise DataError(f"{name}: a DICOM file that is damaged or cut short", _SKIP)
        raise DataError(f"{name}: a DICOM file without an image ({found.Modality})", _SKIP)
    frames = int(found.get("NumberOfFrames") or 1)
    if frames > 1:
        raise DataError(
            f"{name}: a DICOM file of {frames} frames; one image a file is expected",
            "write the frames that show the finding into files of their own, or build with "
            "--set data.on_error=skip",
        )
    height, width = int(found.get("Rows") or 0), int(found.get("Columns") or 0)
    if height * width > max_pixels:
        raise DataError(
            f"{name}: {width} x {height} pixels; the limit is {max_pixels // 1_000_000} megapixels",
            "scale it down first, or build with --set data.on_error=skip",
        )


def _parsed(
    file: Path | io.BytesIO, tags: list[str], name: str, pixels: bool = True
) -> Dataset | None:
    """The tags of a file, or None when it is no DICOM file.

    Raises MissingExtra without pydicom, and DataError, with `name`, for a damaged header.
    """
    try:
        import pydicom
    except ImportError:
        raise MissingExtra("pydicom", EXTRA, f"{name}: a DICOM file") from None
    try:
        found = pydicom.dcmread(
            file, stop_before_pixels=not pixels, specific_tags=list(tags), force=True
        )
        # A file without DICOM's magic that is none has no such tag.
        return found if found.preamble or "Rows" in found or "Modality" in found else None
    except OSError as error:
        if error.errno is None:
            return None
        raise
    except Exception:  # a damaged header may raise anything
        raise DataError(f"{name}: a DICOM file that is damaged or cut short", _SKIP) from None


def header(file: Path | io.BytesIO, tags: list[str], name: str) -> Dataset | None:
    """Some tags of a file without its pixels; None when it is no DICOM file or is damaged.

    Raises MissingExtra without pydicom, and OSError.
    """
    try:
        return _parsed(file, tags, name, pixels=False)
    except DataError:
        return None


def header_size(file: Path | io.BytesIO) -> tuple[int, int]:
    """Width and height in a DICOM file's header, or (0, 0) when it cannot be read."""
    try:
        found = header(file, ["Rows", "Columns"], "")
        return (0, 0) if found is None else (int(found.Columns), int(found.Rows))
    except (MissingExtra, OSError, AttributeError, TypeError, ValueError):
        return (0, 0)
