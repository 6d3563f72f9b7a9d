"""Set up the emulated Raspberry Pi 4 that `edgekd bench --emulate` runs on: Arm's Python and runtime under qemu-user.

    apt-get install qemu-user-static
    python tools/pi_emulator.py                 # about 250 MB in ~/.cache/edgekd/pi4, or in $EDGEKD_EMULATOR

No root, no chroot and no binfmt_misc: Debian's arm64 packages are fetched by apt with lists of its own, unpacked, and
run by qemu-aarch64 with `-L`. The runtime comes from PyPI, of the version that is installed here, so that the bytes of
both can be compared. What it computes is what a Pi computes; how long it takes says nothing about a Pi.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from edgekd.device.emulate import default_folder

CORE = "cortex-a72"  # the Pi 4's; no dot products, no LSE, so that a file or a runtime that needs them fails here too
PACKAGES = (
    "python3",
    "libgomp1",
    "libatomic1",
    "libstdc++6",
)  # the runtime's wheel links the last three
WHEELS = (
    "ai-edge-litert",
    "numpy",
    "pillow",
)  # Pillow for the bundle's Pi sample, which decodes images itself
# glibc the wheels may ask for; Debian 12 has 2.36
PLATFORMS = (
    *(f"manylinux_2_{minor}_aarch64" for minor in (35, 34, 31, 28, 27, 17)),
    "manylinux2014_aarch64",
)
# As on a Pi 4. Without these qemu lets the program read the host's, and ai-edge-litert dies looking for Arm cores.
CPUINFO = (
    "".join(
        f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
        for core in range(4)
    )
    + "Model\t\t: Raspberry Pi 4 Model B (emulated)\n"
)
FAKES = {
    "proc/cpuinfo": CPUINFO,
    "proc/device-tree/model": "Raspberry Pi 4 Model B (emulated)\n",
    "sys/devices/system/cpu/possible": "0-3\n",
    "sys/devices/system/cpu/present": "0-3\n",
}


def debian_packages(folder: Path, source: str | None) -> list[Path]:
    """Fetch PACKAGES for arm64 and all they depend on, with apt's state and cache kept inside `folder`."""
    for name in ("state/lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()  # as of a machine with no package at all
    options = [
        f"Dir::State={folder / 'state'}",
        f"Dir::State::status={folder / 'status'}",
        f"Dir::Cache={folder / 'cache'}",
        "APT::Architecture=arm64",
        "APT::Architectures::=arm64",
        "APT::Install-Recommends=false",
        "APT::Sandbox::User=root",
    ]  # apt's own user cannot enter our folder
    if source is not None:
        (folder / "sources.list").write_text(source + "\n", encoding="utf-8")
        options += [
            f"Dir::Etc::sourcelist={folder / 'sources.list'}",
            f"Dir::Etc::sourceparts={folder / 'parts'}",
        ]
    flags = [word for option in options for word in ("-o", option)]
    told(["apt-get", *flags, "-q", "update"])
    told(["apt-get", *flags, "-q", "-y", "--download-only", "install", *PACKAGES])
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def told(command: list[str]) -> None:
    """Run a command; its output goes to stderr."""
    print("+", shlex.join(command)[:200], file=sys.stderr)
    subprocess.run(command, check=True, stdout=sys.stderr)


def set_up(place: Path, source: str | None) -> None:
    """Make the emulator in `place`, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".pi-emulator-") as temporary:
        made, work = Path(temporary) / "made", Path(temporary) / "work"
        root = made / "root"
        root.mkdir(parents=True)
        work.mkdir()
        for package in debian_packages(work, source):
            subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
        (python,) = (
            path
            for path in root.glob("usr/bin/python3.*")
            if path.name[8:].isdigit() and not path.is_symlink()
        )
        wheels = [f"{name}=={metadata.version(name)}" for name in WHEELS]
        # Debian's Python looks here with -I too, which PYTHONPATH would not survive
        target = root / "usr" / "local" / "lib" / python.name / "dist-packages"
        platforms = [word for name in PLATFORMS for word in ("--platform", name)]
        told(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                *platforms,
                "--implementation",
                "cp",
                "--python-version",
                python.name.removeprefix("python"),
                "--target",
                str(target),
                *wheels,
            ]
        )
        for name, text in FAKES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        wrapper = made / "python"
        wrapper.write_text(wrapper_text(place, python.name), encoding="utf-8")
        wrapper.chmod(0o755)
        if place.exists():
            shutil.rmtree(place)
        made.rename(place)


def wrapper_text(place: Path, python: str) -> str:
    """The command that is this Pi's Python. `-0` makes it sys.executable there, so that the runner can start its child."""
    root, own = place / "root", place / "python"
    words = [
        qemu(),
        "-cpu",
        CORE,
        "-0",
        str(own),
        "-L",
        str(root),
        "-U",
        "OPENBLAS_CORETYPE",
        "-U",
        "OPENBLAS_L2_SIZE",
        str(root / "usr" / "bin" / python),
    ]
    return f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'


def qemu() -> str:
    """Path of qemu for 64-bit Arm programs."""
    for name in ("qemu-aarch64-static", "qemu-aarch64"):
        if found := shutil.which(name):
            return found
    raise SystemExit(
        "pi_emulator: qemu-aarch64 is not on PATH; type: apt-get install qemu-user-static"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=default_folder(), help="default: %(default)s"
    )
    parser.add_argument(
        "--apt-source",
        metavar="LINE",
        help="a sources.list line of a Debian with arm64, where this "
        "machine's own apt sources are of another system",
    )
    arguments = parser.parse_args()
    qemu()
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise SystemExit(
                f"pi_emulator: {tool} is not on PATH; this needs a Debian, or a container with one"
            )
    place = arguments.folder.absolute()
    if place.exists() and not (place / "python").is_file() and any(place.iterdir()):
        raise SystemExit(
            f"pi_emulator: {place} holds other things; name a folder that does not exist yet"
        )
    set_up(place, arguments.apt_source)
    program = "import platform, numpy, ai_edge_litert.interpreter as _; print(platform.machine(), platform.python_version())"
    answer = subprocess.run(
        [str(place / "python"), "-I", "-c", program], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        raise SystemExit(
            f"pi_emulator: the emulated Python does not start: {answer.stderr.strip()[-500:]}"
        )
    print(
        f"{place}: {answer.stdout.strip()}\nnext: edgekd bench MODEL.tflite --profile pi4 --emulate"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
