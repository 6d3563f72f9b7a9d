"""Read off a TFLite runtime which operators it loads, for edgekd/tflite/runtime_ops.toml.

A runtime refuses a file for each operator code that it lacks, whether or not an operator uses it.
So this offers it one file for each operator and version:

    python tools/runtime_ops.py files FOLDER     # with EdgeKD's own Python: writes the files
    python tools/runtime_ops.py ask FOLDER       # with any Python 3.8+ that has a runtime

`ask` takes the first of ai_edge_litert, tflite_runtime and tensorflow that is installed, and prints
the newest version that it loads of each operator as TOML. What an older runtime has too need not
stand in the table.
"""

from __future__ import annotations

import importlib
import pathlib
import sys

VERSIONS = 26  # 0 to 25: the newest version of any operator in 2026 is 14
CODES = 260  # the newest operator in 2026 is 208, and codes behind it must be refused
MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite")


def write_files(folder: pathlib.Path) -> None:
    """One file for each operator and version, named NAME-VERSION.tflite."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    names = {
        number: name for name, number in vars(schema.BuiltinOperator).items() if name[0] != "_"
    }
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(CODES):
        for version in range(VERSIONS):
            model, graph = schema.ModelT(), schema.SubGraphT()
            tensor, code = schema.TensorT(), schema.OperatorCodeT()
            tensor.shape, tensor.name = [1], b"x"
            graph.tensors, graph.inputs, graph.outputs = [tensor], [0], [0]
            code.builtinCode, code.version = number, version
            code.deprecatedBuiltinCode = min(number, 127)
            model.version, model.subgraphs = 3, [graph]
            model.operatorCodes, model.buffers = [code], [schema.BufferT()]
            builder = flatbuffers.Builder(256)
            builder.Finish(model.Pack(builder), b"TFL3")
            name = f"{names.get(number, number)}-{version}.tflite"
            (folder / name).write_bytes(bytes(builder.Output()))


def loads(path: pathlib.Path) -> bool:
    """Whether the installed runtime takes a file."""
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        try:
            module.Interpreter(model_content=path.read_bytes())
        except (ValueError, RuntimeError):
            return False
        return True
    raise SystemExit("no TFLite runtime is installed")


def ask(folder: pathlib.Path) -> None:
    """Print the newest version of each operator that the runtime loads."""
    found: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.tflite")):
        if loads(path):
            name, _, version = path.stem.rpartition("-")
            found.setdefault(name, []).append(int(version))
    for name, versions in sorted(found.items()):
        first, last = min(versions), max(versions)
        if sorted(versions) != list(range(first, last + 1)):
            raise SystemExit(f"{name}: there are gaps between the versions {sorted(versions)}")
        print(f"{name} = {last}" + ("" if first == 1 else f"  # from version {first} on"))


if __name__ == "__main__":
    command, where = sys.argv[1:]
    {"files": write_files, "ask": ask}[command](pathlib.Path(where))
