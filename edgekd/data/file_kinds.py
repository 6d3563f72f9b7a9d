"""What a file is, by its name and its first bytes: an image that is read, another kind of image, an
archive, or something else.

Nothing here decodes an image. Names decide first; bytes decide where a name says nothing, as with
DICOM files, which often have no suffix or a number in its place.
"""

from __future__ import annotations

import enum
from pathlib import Path, PurePath

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})


def _suffixes(*lists: str) -> frozenset[str]:
    """The suffixes in some lists, which blanks separate."""
    return frozenset(" ".join(lists).split())


# Suffixes of the image files that are read.
IMAGE_SUFFIXES = (
    _suffixes(
        ".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .pgm .ppm .pnm .avif",
        ".jp2 .j2k .j2c .jpc .jpx .jpf",  # JPEG 2000
    )
    | DICOM_SUFFIXES
    | HEIF_SUFFIXES
)

# Suffixes of images, volumes and films that are not read. A user who has them beside images would
# miss them.
OTHER_IMAGE_SUFFIXES = _suffixes(
    # volumes and scientific images
    ".nii .mha .mhd .nrrd .mnc .img .raw .fits .fit .npy .npz .mat .czi .nd2 .lif .oib .svs .ndpi "
    ".mrxs .scn .vsi",
    # raw files of cameras
    ".cr2 .cr3 .nef .nrw .arw .srf .dng .orf .rw2 .raf .pef .srw .x3f",
    # documents and drawings
    ".pdf .psd .psb .svg .svgz .eps .ai .xcf .kra",
    # further image formats, and films
    ".jxl .jxr .wdp .jls .tga .pcx .ico .icns .dds .exr .hdr .bpg .flif .pbm .pam",
    ".mp4 .mov .avi .mkv .webm .m4v .wmv",
)
ARCHIVE_SUFFIXES = _suffixes(".zip .tar .tgz .tbz2 .txz .gz .bz2 .xz .zst .7z .rar")
# Files whose names say that they are no images, so that their first bytes are not read.
_TEXT_SUFFIXES = _suffixes(
    ".txt .md .csv .tsv .json .jsonl .xml .html .htm .yaml .yml .toml .ini .log .py .sh .xls .xlsx",
    ".doc .docx .db .sqlite .sha256 .md5",
)
# Files and folders that operating systems and file servers leave behind, in lower case.
_LITTER = frozenset(
    {
        "thumbs.db",
        "desktop.ini",
        "__macosx",
        "lost+found",
        "@eadir",
        "$recycle.bin",
        "system volume information",
    }
)

# A DICOM file has 128 bytes of any content before these four (PS3.10, section 7.1).
_DICOM_MAGIC, _DICOM_AT = b"DICM", 128
SNIFFED = _DICOM_AT + len(_DICOM_MAGIC)  # bytes that `kind_of_bytes` looks at
# What image files start with.
_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
# The brands of ISO base media files that are HEIC or AVIF images (ISO/IEC 23008-12; AV1 Image File
# Format, section 2.1).
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})


class FileKind(enum.Enum):
    """What a file is."""

    IMAGE = enum.auto()  # one that is read
    OTHER_IMAGE = enum.auto()  # an image or a volume in a format that is not read
    UNNAMED_IMAGE = enum.auto()  # its bytes are an image's, and its name does not say so
    ARCHIVE = enum.auto()
    LITTER = enum.auto()  # left by the operating system
    OTHER = enum.auto()


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name was left by an operating system or a file server."""
    return name.lower() in _LITTER or name.startswith("._") or name == ".DS_Store"


def is_dicom(start: bytes) -> bool:
    """Whether a file's first bytes are those of a DICOM file."""
    return start[_DICOM_AT:SNIFFED] == _DICOM_MAGIC


def brand(start: bytes) -> bytes:
    """The brand of an ISO base media file, such as b"heic"; b"" for any other file."""
    return start[8:12] if start[4:8] == b"ftyp" else b""


def kind_of(path: Path) -> FileKind:
    """What a file is. Its first bytes are read where its name does not say it.

    A file that cannot be read counts as `FileKind.OTHER` then.
    """
    named = kind_of_name(path.name)
    if named is not None:
        return named
    try:
        with path.open("rb") as file:
            return kind_of_bytes(file.read(SNIFFED))
    except OSError:
        return FileKind.OTHER


def kind_of_name(name: str) -> FileKind | None:
    """What a file of this name is, or None when the name does not say it."""
    if is_litter(name):
        return FileKind.LITTER
    suffix = PurePath(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return FileKind.IMAGE
    if suffix in OTHER_IMAGE_SUFFIXES or name.lower().endswith(".nii.gz"):
        return FileKind.OTHER_IMAGE
    if suffix in ARCHIVE_SUFFIXES:
        return FileKind.ARCHIVE
    # DICOMDIR is the table of contents of a DICOM medium (PS3.10, section 8.6).
    if suffix in _TEXT_SUFFIXES or name.upper() == "DICOMDIR":
        return FileKind.OTHER
    return None


def kind_of_bytes(start: bytes) -> FileKind:
    """What a file with these first `SNIFFED` bytes is."""
    if is_dicom(start):
        return FileKind.IMAGE
    if start.startswith(_MAGIC) or brand(start) in HEIF_BRANDS | AVIF_BRANDS:
        return FileKind.UNNAMED_IMAGE
    return FileKind.OTHER
