"""The React Native sample: type-checked against the real types, and run under Node with a runtime
that only looks answers up.

Needs Node, and in EDGEKD_NODE_MODULES what `npm install react-native-fast-tflite
react-native-nitro-modules react-native react @types/react fast-png typescript` brings.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgekd.bundle import archive
from edgekd.data import images
from tests.conftest import REPOSITORY
from tests.small_bundle import body, changed_bundle

PAGE = REPOSITORY / "docs/how_to/react_native.md"
NODE = shutil.which("node")
MODULES = Path(os.environ.get("EDGEKD_NODE_MODULES", "nowhere"))
TSC = MODULES / "typescript/lib/tsc.js"
needs_packages = pytest.mark.skipif(
    NODE is None
    or not all((MODULES / name).is_dir() for name in ("react-native-fast-tflite", "fast-png"))
    or not TSC.is_file(),
    reason="EDGEKD_NODE_MODULES lacks typescript, fast-png or react-native-fast-tflite",
)
OPTIONS = {
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "strict": True,
    "noUncheckedIndexedAccess": True,
    "allowJs": True,
    "resolveJsonModule": True,
    "skipLibCheck": True,
    "types": [],
    "lib": ["es2022", "dom"],
    "rootDir": ".",
    "outDir": "made",
}
RUNTIME = """
import {readFileSync} from 'node:fs';
const [shape, answers] = JSON.parse(readFileSync(process.env.ANSWERS));
const off = Number(process.env.OFF);
export const loadTensorflowModel = async () => ({
  inputs: [{name: 'input', dataType: 'uint8', shape}],
  run: async ([input]) => {
    const codes = answers[Buffer.from(input).toString('base64')];
    if (!codes) throw new Error('an input that the host never made');
    return [Uint8Array.from(codes, (code) => Math.min(code + off, 255)).buffer];
  },
});
"""
MAIN = """
import {createClassifier} from './made/classifier.js';
try {
  const classify = await createClassifier(1, JSON.parse(process.env.DELEGATES));
  const black = {width: 5, height: 7, data: new Uint8Array(105)};
  await classify(black).catch((error) => console.log('passed', error.message));
} catch (error) {
  console.log('refused', error.message);
}
"""


def packed(bundle: Path, app: Path) -> Path:
    """A folder of an app with what pack.mjs puts into it, and the packages."""
    script = bundle / "samples/react_native/pack.mjs"
    subprocess.run([str(NODE), str(script), str(app / "edgekd")], check=True, capture_output=True)
    return app


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_pack_writes_what_the_classifier_imports(small_bundle: Path, tmp_path: Path) -> None:
    folder = packed(small_bundle / "bundle", tmp_path) / "edgekd"
    made = json.loads((folder / "bundle.json").read_text())
    golden = made["golden"]
    names = [row["file"] for row in [*golden["images"], golden["pattern"]]]
    assert made["images"].keys() == {*names, golden["pattern"]["fitted"]}
    assert made["labels"] == (small_bundle / "bundle/labels.txt").read_text().splitlines()
    assert {path.name for path in folder.iterdir()} == {
        "bundle.json",
        "classifier.ts",
        "edgekd.js",
        "model.tflite",
        "vectors.js",
    }


@needs_packages
def test_the_classifier_is_typed_and_refuses(small_bundle: Path, tmp_path: Path) -> None:
    """tsc with the real packages, then the emitted JavaScript with a runtime of stored answers."""
    bundle = small_bundle / "bundle"
    app = packed(bundle, tmp_path / "app")
    (app / "node_modules").symlink_to(MODULES)
    pages = re.findall(r"```ts\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(pages) == 2
    for number, code in enumerate(pages):
        (app / f"page_{number}.ts").write_text(code)
    project = {"compilerOptions": OPTIONS, "include": ["*.ts", "edgekd/*.ts"]}
    (app / "tsconfig.json").write_text(json.dumps(project))
    checked = subprocess.run(
        [str(NODE), str(TSC), "-p", str(app)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout

    files = archive.read(bundle)
    contract, golden = body(files, "deployment.json"), body(files, "golden/golden.json")
    source = contract["input"]
    rows = [*golden["images"], golden["pattern"]]
    answers = tmp_path / "answers.json"
    answers.write_text(
        json.dumps(
            [
                [1, source["px"], source["px"], source["channels"]],
                {_base64(files[row["file"]], source): row["codes_uint8"] for row in rows},
            ]
        )
    )
    runtime = tmp_path / "run/node_modules/react-native-fast-tflite"
    runtime.mkdir(parents=True)
    (runtime / "index.mjs").write_text(RUNTIME)
    (runtime / "package.json").write_text('{"main": "index.mjs", "exports": "./index.mjs"}')
    for name in ("fast-png", "fflate", "iobuffer"):
        if (MODULES / name).is_dir():
            (runtime.parent / name).symlink_to(MODULES / name)

    def said(folder: Path, off: int = 0, delegates: str = "[]") -> str:
        run = tmp_path / "run"
        shutil.copytree(app / "made/edgekd", run / "made", dirs_exist_ok=True)
        shutil.copy(packed(folder, tmp_path / "again") / "edgekd/bundle.json", run / "made")
        script = run / "made/classifier.js"
        imports = script.read_text().replace(
            "from './bundle.json';", "from './bundle.json' with {type: 'json'};"
        )
        script.write_text(imports)
        (run / "package.json").write_text('{"type": "module"}')
        (run / "main.mjs").write_text(MAIN)
        environment = {"ANSWERS": str(answers), "OFF": str(off), "DELEGATES": delegates}
        return subprocess.run(
            [str(NODE), str(run / "main.mjs")],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert said(bundle) == said(bundle, 1) == "passed an input that the host never made\n"
    assert said(bundle, 2).startswith("refused golden/000.png: the output differs by 2 LSB")
    spread = max(max(row["codes_uint8"]) - min(row["codes_uint8"]) for row in rows)
    over = int(golden["accelerator_tolerance"] * spread) + 2
    assert said(bundle, 1, '["core-ml"]').startswith("passed")
    assert said(bundle, over, '["core-ml"]').startswith("refused")
    for change in ("mean", "order", "labels", "fit"):
        (tmp_path / change).mkdir()
        assert said(changed_bundle(small_bundle, tmp_path / change, change)).startswith("refused")


def _base64(file: bytes, source: dict[str, object]) -> str:
    """The input bytes of a golden image, as the runtime looks them up."""
    pixels = images.as_rgb(images.decode(file, "golden"))
    fitted = images.fit(pixels, int(str(source["px"])), str(source["fit"]))
    return base64.b64encode(fitted.tobytes()).decode()
