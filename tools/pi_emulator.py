"""Sets up the emulated Raspberry Pi 4 for `edgekd bench --emulate`: an Arm Python under qemu-user.

    apt-get install qemu-user-static
    python tools/pi_emulator.py

The emulator takes about 250 MB in ~/.cache/edgekd/pi4, or in $EDGEKD_EMULATOR. It needs no root, no
chroot and no binfmt_misc: apt fetches Debian's arm64 packages into a folder of its own, dpkg-deb
unpacks them, and qemu-aarch64 runs the Python in them with `-L`. The runtime comes from PyPI, in
the version that is installed here, so that the output bytes of both can be compared. The emulator
computes what a Pi computes. Its speed says nothing about the speed of a Pi.
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
from edgekd.device.kit import wheels

# The Pi 4's core. It has no dot product instructions and no LSE, so that a runtime that needs them
# fails here as it does on the Pi.
CORE = "cortex-a72"
# The wheel of the runtime links the last three.
PACKAGES = ("python3", "libgomp1", "libatomic1", "libstdc++6")
# Pillow is for the Pi sample of a bundle, which decodes images.
WHEELS = ("ai-edge-litert", "numpy", "pillow")
# As on a Pi 4. Without these files, a program under qemu reads those of the host, and
# ai-edge-litert crashes when it looks for Arm cores in them.
CPUINFO = (
    "".join(
        f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\n"
        "CPU revision\t: 3\n\n"
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
    """Fetch the arm64 packages of PACKAGES and their dependencies.

    apt keeps its state and its cache in `folder`. `source`: a line of a sources.list; None for the
    apt sources of this machine. Returns the .deb files.
    """
    for name in ("state/lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()  # an empty list of installed packages
    # The sandbox user is root because apt's own user cannot enter the folder.
    options = [
        f"Dir::State={folder / 'state'}",
        f"Dir::State::status={folder / 'status'}",
        f"Dir::Cache={folder / 'cache'}",
        "APT::Architecture=arm64",
        "APT::Architectures::=arm64",
        "APT::Install-Recommends=false",
        "APT::Sandbox::User=root",
    ]
    if source is not None:
        (folder / "sources.list").write_text(source + "\n", encoding="utf-8")
        options += [
            f"Dir::Etc::sourcelist={folder / 'sources.list'}",
            f"Dir::Etc::sourceparts={folder / 'parts'}",
        ]
    flags = [word for option in options for word in ("-o", option)]
    run(["apt-get", *flags, "-q", "update"])
    run(["apt-get", *flags, "-q", "-y", "--download-only", "install", *PACKAGES])
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def run(command: list[str]) -> None:
    """Print and run a command. Its output goes to stderr."""
    print("+", shlex.join(command)[:200], file=sys.stderr)
    subprocess.run(command, check=True, stdout=sys.stderr)


def set_up(place: Path, source: str | None) -> None:
    """Make the emulator in `place`. If a step fails, `place` stays as it was."""
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
        pinned = [f"{name}=={metadata.version(name)}" for name in WHEELS]
        # Debian's Python reads this folder with -I, too. It would ignore PYTHONPATH.
        target = root / "usr" / "local" / "lib" / python.name / "dist-packages"
        platforms = [word for name in wheels.platforms("aarch64") for word in ("--platform", name)]
        version = python.name.removeprefix("python")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        pip += ["--only-binary=:all:", *platforms, "--implementation", "cp"]
        run([*pip, "--python-version", version, "--target", str(target), *pinned])
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
    """The shell script that starts the emulated Python.

    `-0` makes the script the sys.executable of the emulated Python, so that the runner can start a
    child process.
    """
    root, own = place / "root", place / "python"
    words = [qemu(), "-cpu", CORE, "-0", str(own), "-L", str(root)]
    words += ["-U", "OPENBLAS_CORETYPE", "-U", "OPENBLAS_L2_SIZE"]
    words.append(str(root / "usr" / "bin" / python))
    return f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'


def qemu() -> str:
    """Path of qemu for 64-bit Arm programs. Raises SystemExit if it is not installed."""
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
        help="a sources.list line of a Debian with arm64, for a machine whose apt sources are of "
        "another system",
    )
    arguments = parser.parse_args()
    qemu()
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise SystemExit(
                f"pi_emulator: {tool} is not on PATH; run this on Debian, or in a Debian container"
            )
    place = arguments.folder.absolute()
    if place.exists() and not (place / "python").is_file() and any(place.iterdir()):
        raise SystemExit(
            f"pi_emulator: {place} holds other files; name a folder that does not exist"
        )
    set_up(place, arguments.apt_source)
    program = (
        "import platform, numpy, ai_edge_litert.interpreter as _; "
        "print(platform.machine(), platform.python_version())"
    )
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
