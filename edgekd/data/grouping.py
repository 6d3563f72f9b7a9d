"""Which images belong together, such as those of one patient, and so must stay in one split.

A table of images names the group in a column, such as `patient_id`; otherwise the folders of the
images' paths may name it, such as `patient00001/`. What looks like a group and is not used becomes
a warning that says how to use it.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from edgekd.core.errors import DataError, UnknownName
from edgekd.data import column_names
from edgekd.settings.recipe import DataConfig

# Values of data.group_column that mean "the first column that is known to hold groups". Recipes of
# 0.1 name patient_key even where no such column is.
AUTOMATIC = ("auto", "patient_key")

# A column of `column_names.LIKELY_GROUP` with fewer values than this is not used unasked.
_FEWEST_LIKELY = 10
# Names of columns that may hold groups. Such a column is not used, but warned of.
_HINTS = re.compile(
    "(?:patient|subject|participant|person|individual|donor|animal|case|study|exam|visit|session|"
    "series|site|hospital|centre|center|clinic|scanner|camera|device|video|clip|scene|sequence|"
    "location|slide|specimen|lesion|house|plant|farm|herd|owner|user|group){1,2}"
    f"(?:{'|'.join(column_names.GROUP_ENDINGS)})?"
)
# A number this short is a measurement, such as a weight, rather than an identifier.
_MEASURED = re.compile(r"-?\d{1,3}(?:\.\d*)?")
# A value that looks like an identifier: letters with digits, or a long number.
_IDENTIFIER = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w.-]{2,}|\d{6,}")
_DATE = re.compile(r"(19|20)\d{2}-?(0\d|1[0-2])-?[0-3]\d")
# Of a column that is a group by its values alone: fewest values, and images of each on average.
_FEWEST_VALUES, _REPEATED = 5, 1.5

# A folder that names a patient, such as patient00001 (CheXpert) or p10000032 (MIMIC-CXR).
_PATIENT_FOLDER = re.compile(
    r"(?:patient|subject|participant|person|pat|sub)[-_ ]?(?:id)?[-_ ]?\d+|p\d{8}", re.IGNORECASE
)
# The same inside the names of files, and of folders that may be groups of another kind.
_IN_NAMES = re.compile(
    r"(patient|subject|participant|person|individual|donor|animal|case|study|session|site|camera|"
    r"video|clip|scene|sequence|slide)[-_ ]?\d+",
    re.IGNORECASE,
)
# A file's name that ends in a running number, such as 00000001_000.png (patient and visit).
_NUMBERED = re.compile(r"^(?=[^/]*\d)(.+)[-_]\d{1,4}$")
_NUMBERED_GROUPS = 10

_ABOUT = column_names.about_keys()
NO_GROUPS = "--set data.group_column= (empty) says that there are none"


@dataclasses.dataclass(frozen=True)
class Grouping:
    """The group of each image, in the images' order; None where an image is a group of its own.

    `by`: what names the groups, for a reader, such as "column 'patient_id'"; "" without groups.
    """

    groups: list[str | None]
    by: str = ""
    warnings: list[str] = dataclasses.field(default_factory=list)


def group(
    names: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    config: DataConfig,
    table: str,
    taken: Sequence[str] = (),
    below: Sequence[str] | None = None,
    nested: str = "",
) -> Grouping:
    """Find the groups of some images.

    `names`: the images' paths, relative, with forward slashes. `columns`: the cells of each column,
    in the order of `names`. `table`: the file that holds them, for messages. `taken`: columns that
    hold something else, such as the label. `below`: the paths without folders that name the class,
    where these are known; only they are searched for folders that name a patient. `nested`:
    a pattern for `data.group_pattern` that finds the first folder of `below`, where every such
    folder may be a group.

    `data.group_pattern` decides first, then `data.group_column`. Without both, the first column
    that is known to hold groups is used, then folders that name a patient.

    Raises UnknownName for a column that is not there, and DataError for a pattern that fits no
    image.
    """
    if config.group_pattern:
        return _by_pattern(names, config.group_pattern)
    if config.group_column not in AUTOMATIC:
        if not config.group_column:
            return Grouping([None] * len(names))
        column = column_names.named(list(columns), config.group_column)
        if column is None:
            raise UnknownName(
                f"column of {table}",
                config.group_column,
                columns,
                f"it has {', '.join(columns)}; data.group_column must name one of them",
            )
        return _by_column(names, columns, column, table)
    told = {*taken, *(name for name in columns if column_names.key(name) in _ABOUT)}
    free = {name: cells for name, cells in columns.items() if name not in told}
    found = _known_column(free)
    if found is not None:
        grouping = _by_column(names, columns, found, table)
        others = {name: cells for name, cells in free.items() if name != found}
        return _with_warnings(grouping, _crossing(grouping, others, found, table))
    below = names if below is None else below
    folders = [_patient_folder(name) for name in below]
    if len(set(folders) - {None}) > 1:
        return Grouping(folders, "the patient's folder in each path")
    unused = _looking_like_groups(free, table) or _looking_like_paths(below, nested)
    return Grouping([None] * len(names), "", unused)


def _with_warnings(grouping: Grouping, warnings: Sequence[str]) -> Grouping:
    return dataclasses.replace(grouping, warnings=[*grouping.warnings, *warnings])


def _by_pattern(names: Sequence[str], pattern: str) -> Grouping:
    """Groups by a regular expression: its first group, or all that it matches."""
    matches = [re.search(pattern, name) for name in names]
    found = [match and match[1 if match.re.groups else 0] for match in matches]
    without = found.count(None)
    if without == len(found):
        raise DataError(
            f"data.group_pattern is {pattern!r}, which fits no image, for example {names[0]!r}"
            if names
            else f"data.group_pattern is {pattern!r}, but there are no images",
            "write a regular expression for the part of a path that names the group, such as "
            r"--set 'data.group_pattern=patient\d+'",
        )
    said = [f"data.group_pattern fits no part of {_some(names, found)}"] if without else []
    return Grouping(found, f"the pattern {pattern!r}", said)


def _by_column(
    names: Sequence[str], columns: Mapping[str, Sequence[str]], column: str, table: str
) -> Grouping:
    found = [cell.strip() or None for cell in columns[column]]
    said = []
    if any(found) and None in found:
        said.append(f"no {column} in {table} for {_some(names, found)}: each is a group of its own")
    return Grouping(found, f"column {column!r}", said)


def _some(names: Sequence[str], found: Sequence[str | None]) -> str:
    """How many images have no group, and the first three."""
    without = [name for name, value in zip(names, found, strict=True) if value is None]
    more = ", ..." if len(without) > 3 else ""
    return f"{len(without)} images ({', '.join(without[:3])}{more})"


def known_names(header: Sequence[str]) -> list[str]:
    """The columns that hold groups by their name alone, whatever is in them."""
    keys = {*column_names.GROUP, *column_names.LIKELY_GROUP}
    return [name for name in header if column_names.key(name) in keys]


def _known_column(columns: Mapping[str, Sequence[str]]) -> str | None:
    """The column that holds groups by its name."""
    for wanted in column_names.GROUP:
        column = column_names.find(columns, [wanted])
        if column is not None and any(cell.strip() for cell in columns[column]):
            return column
    for wanted in column_names.LIKELY_GROUP:
        column = column_names.find(columns, [wanted])
        if column is not None and _repeats(columns[column], _FEWEST_LIKELY):
            return column
    return None


def _repeats(cells: Sequence[str], fewest: int) -> bool:
    """Whether a column has at least `fewest` values, and one of them at least twice."""
    counts = Counter(cell.strip() for cell in cells if cell.strip())
    return len(counts) >= fewest and len(counts) < sum(counts.values())


def _looking_like_groups(columns: Mapping[str, Sequence[str]], table: str) -> list[str]:
    """A warning for each column that looks like a group."""
    said = []
    for column, cells in columns.items():
        if not (_hinted(column, cells) or _of_identifiers(column, cells)):
            continue
        counts = Counter(cell.strip() for cell in cells if cell.strip())
        said.append(
            f"column {column!r} of {table} looks like a group ({len(counts)} values for "
            f"{sum(counts.values())} images) and is not used, so that images of one value can lie "
            f"in several splits; --set 'data.group_column={column}' keeps them together, "
            f"{NO_GROUPS}"
        )
    return said


def _hinted(column: str, cells: Sequence[str]) -> bool:
    """Whether a column may hold groups by its name, and has values that come again."""
    key = column_names.key(column)
    named = bool(_HINTS.fullmatch(key)) or (
        key.startswith(column_names.GROUP_WORDS)
        and not all(_MEASURED.fullmatch(cell.strip()) for cell in cells)
    )
    return named and _repeats(cells, 2)


def _of_identifiers(column: str, cells: Sequence[str]) -> bool:
    """Whether a column's values alone look like groups: identifiers that come again."""
    values = [cell.strip() for cell in cells if cell.strip()]
    distinct = set(values)
    if len(distinct) < _FEWEST_VALUES or len(values) < _REPEATED * len(distinct):
        return False
    if column_names.key(column).endswith("id"):
        return True
    return all(_IDENTIFIER.fullmatch(value) and not _DATE.fullmatch(value) for value in distinct)


def _crossing(
    grouping: Grouping, columns: Mapping[str, Sequence[str]], used: str, table: str
) -> list[str]:
    """Warnings for other columns that are sure to hold groups, when the used column divides them.

    A study inside a patient is no such column; a patient beside a column `group` may be.
    """
    said = []
    for wanted in column_names.GROUP:
        column = column_names.find(columns, [wanted])
        if column is None or not _repeats(columns[column], 2):
            continue
        within: dict[str, set[str | None]] = defaultdict(set)
        for value, own in zip(columns[column], grouping.groups, strict=True):
            if value.strip():
                within[value.strip()].add(own)
        divided = [value for value, own in within.items() if len(own) > 1]
        if divided:
            said.append(
                f"column {column!r} of {table} looks like a group too, and {used!r}, which is "
                f"used, divides {len(divided)} of its values ({', '.join(sorted(divided)[:3])}); "
                f"--set 'data.group_column={column}' keeps these together"
            )
    return said


def _patient_folder(name: str) -> str | None:
    """The folder of a path that names a patient."""
    folders = PurePosixPath(name).parts[:-1]
    return next((each for each in folders if _PATIENT_FOLDER.fullmatch(each)), None)


def _looking_like_paths(names: Sequence[str], nested: str) -> list[str]:
    """A warning when the names of the images look as if a part of them were a group.

    `nested`: the pattern that finds the first folder of each path, or "" where any folder may mean
    anything.
    """
    words = Counter(match[1].lower() for name in names if (match := _IN_NAMES.search(name)))
    for word, _ in words.most_common():
        pattern = rf"(?i){word}[-_ ]?\d+"
        found = [match[0].lower() for name in names if (match := re.search(pattern, name))]
        if _repeats(found, 2):
            return [_path_warning(found, pattern)]
    folders = Counter(PurePosixPath(name).parts[0] for name in names if "/" in name)
    if nested and sum(count > 1 for count in folders.values()) > 1:
        return [_path_warning(list(folders.elements()), nested)]
    stems = [PurePosixPath(name).stem for name in names]
    numbered = [match[1] for stem in stems if (match := _NUMBERED.match(stem))]
    if _repeats(numbered, _NUMBERED_GROUPS) and len(numbered) >= 2 * len(set(numbered)):
        return [_path_warning(numbered, r"([^/]*\d[^/]*)[-_]\d{1,4}\.\w+$")]
    return []


def _path_warning(found: Sequence[str], pattern: str) -> str:
    first = Counter(found).most_common(1)[0][0]
    return (
        f"the names of {len(found)} images look as if they named {len(set(found))} groups, such as "
        f"{first!r}, which is not used, so that images of one group can lie in several splits; "
        f"--set 'data.group_pattern={pattern}' keeps them together, {NO_GROUPS}"
    )
