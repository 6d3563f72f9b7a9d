"""The Flutter sample: its Dart files parse, and the app's assets are what it reads.

No Dart compiler is to be had from Debian, npm or PyPI.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs/how_to/flutter.md"


def test_every_dart_file_parses(small_bundle: Path) -> None:
    tree_sitter = pytest.importorskip("tree_sitter", reason="tree-sitter is not installed")
    dart = pytest.importorskip("tree_sitter_dart", reason="tree-sitter-dart is not installed")
    parser = tree_sitter.Parser(tree_sitter.Language(dart.language()))
    files = sorted((small_bundle / "bundle/samples/flutter").rglob("*.dart"))
    assert len(files) == 5
    for path in files:
        assert not parser.parse(path.read_bytes()).root_node.has_error, path.name
    assert parser.parse(b"void main() { final = ; }").root_node.has_error
    blocks = re.findall(r"```dart\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        whole = block if "(CameraImage" in block else f"void main() async {{\n{block}}}"
        assert not parser.parse(whole.encode()).root_node.has_error, block


def test_the_assets_are_what_the_app_reads(small_bundle: Path, tmp_path: Path) -> None:
    """copy_bundle.sh copies, and pubspec.yaml lists, the folders of every file that is opened."""
    copy = Path(shutil.copytree(small_bundle / "bundle", tmp_path / "bundle"))
    folder = copy / "samples/flutter"
    subprocess.run(["sh", str(folder / "copy_bundle.sh")], check=True)
    dart = (folder / "lib/classifier.dart").read_text()
    opened = re.findall(r"text\('([^']+)'\)", dart)
    assert len(opened) == 4
    listed = re.findall(r"- (assets/\S+)", (folder / "pubspec.yaml").read_text())
    for name in [*opened, "model.tflite", "golden/pattern.png"]:
        path = folder / "assets/bundle" / name
        assert path.is_file()
        assert f"{path.parent.relative_to(folder)}/" in listed
