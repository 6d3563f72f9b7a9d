"""Reading CSV files: every fault names the file and the line that the row starts in."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.core.errors import DataError
from edgekd.data import csv_text, manifest, tables

LONG = csv_text.LONGEST_CELL + 1


def written(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "a table.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def read(file: Path) -> csv_text.CsvText:
    return csv_text.read(file, f"labels {file}", "name a CSV")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n1,2\n", [(2, ["1", "2"])]),
        ("\ufeffa,b\r\n\r\n1,2\r\n", [(3, ["1", "2"])]),
        ("a,b\r1,2\r3,4", [(2, ["1", "2"]), (3, ["3", "4"])]),
        ('a,b\n"1\n,2",3\n4,5\n', [(2, ["1\n,2", "3"]), (4, ["4", "5"])]),
        # Characters at which Python splits lines and a CSV does not.
        ("a,b\n1\u2028,2\x0b\n3,4\n", [(2, ["1\u2028", "2\x0b"]), (3, ["3", "4"])]),
        ('a,b\n1,say ""yes""\n2,"3"4\n', [(2, ["1", 'say ""yes""']), (3, ["2", "34"])]),
    ],
)
def test_rows_and_the_lines_they_start_in(
    tmp_path: Path, text: str, rows: list[tuple[int, list[str]]]
) -> None:
    found = read(written(tmp_path, text))
    assert found.header == ["a", "b"]
    assert found.rows == rows


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('a,b\n1,2\n3,"4\n5,6\n', 3, "a quotation mark is opened in this line and not closed"),
        ('a,b\n1,2\n3,"4', 3, "a quotation mark is opened"),
        ('a,"b\n1,2\n', 1, "a quotation mark is opened"),
        ('a,b\n"1\n2",3\n4,"5\n', 4, "a quotation mark is opened"),
        ('a,b\n1\u2028,2\n3,"4', 3, "a quotation mark is opened"),
        ('a,b\n1,"2\n' + "3,4\n" * LONG, 2, "a quotation mark is opened"),
        ("a,b\n1,2\n3," + "4" * LONG, 3, "a cell has more than 131,072 characters"),
    ],
)
def test_faults_name_the_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(DataError) as found:
        read(written(tmp_path, text))
    assert f"a table.csv, line {line}: {said}" in str(found.value)
    assert "next: " in str(found.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for file, said in (
        (tmp_path / "none.csv", "none.csv: no such file or directory"),
        (tmp_path / ("n" * 300), "file name too long"),
        (tmp_path / "a\0b.csv", "NUL"),
        (tmp_path, "is a directory"),
        (written(tmp_path, "a,b\n1,2\n".encode("utf-16")), "not UTF-8 text"),
    ):
        with pytest.raises(DataError, match=said):
            read(file)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_commas_semicolons_and_tabs_divide_cells(tmp_path: Path, mark: str) -> None:
    lines = [f" Image Index {mark}Group", f'1.png{mark}"a;b,c\td"', f"2.png{mark}e"]
    file = written(tmp_path, "\n".join(lines))
    assert tables.rows(file, ("image", "group"), "groups") == [
        {"image": "1.png", "group": "a;b,c\td"},
        {"image": "2.png", "group": "e"},
    ]
    assert csv_text.header(file) == ["Image Index", "Group"]
    open_quote = written(tmp_path, "\n".join([*lines, f'3.png{mark}"f']))
    with pytest.raises(DataError, match="line 4: a quotation mark"):
        tables.rows(open_quote, ("image",), "groups")


def test_image_names_and_groups_are_compared_in_composed_unicode(tmp_path: Path) -> None:
    file = written(tmp_path, "filename,patient_id\nZu\u0308rich.png,a\nb.png,b\n")
    assert tables.groups(file, ["b.png", "Z\u00fcrich.png"]) == (["a", "b"], [1, 0])


def test_a_row_of_another_length(tmp_path: Path) -> None:
    file = written(tmp_path, "image,group\n1.png,a\n2.png,b,c\n")
    with pytest.raises(DataError, match="line 3: 3 cells, and the header names 2 columns"):
        tables.rows(file, ("image",), "groups")


def test_a_manifest_is_read_the_same_way(tmp_path: Path) -> None:
    file = tmp_path / "manifest.csv"
    file.write_text('path,patient_key\na.png,1\nb.png,"2\n')
    with pytest.raises(DataError, match=r"manifest.csv, line 3: a quotation mark"):
        manifest.aligned(file, ["a.png"])
    file.write_text("path,patient_key,note\na.png,1,x\nb.png\n")  # a short row has empty cells
    assert manifest.aligned(file, ["a.png", "b.png"])["patient_key"] == ["1", ""]
