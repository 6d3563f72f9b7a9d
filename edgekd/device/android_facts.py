"""What an Android device says of itself: asked through its shell, and made safe to print."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgekd.core.errors import DeviceError
from edgekd.device.adb import AdbTransport
from edgekd.device.bench_record import Host, HostBefore
from edgekd.device.device_text import clean
from edgekd.device.thermal_service import Thermal, read_thermal

CPU = "/sys/devices/system/cpu/cpu0/cpufreq/"
MAX_FACT = 100  # characters that are kept of one answer


@dataclass(frozen=True)
class Facts:
    """The answers of the device's shell, each one line; an empty text where it gives none.

    `thermal`: what its thermal service says, which Android has from version 10 on.
    """

    manufacturer: str
    model: str
    soc: str
    api: str
    abi: str
    machine: str
    kernel: str
    cores: str
    governor: str
    clock_khz: str
    temperature: str
    thermal: Thermal

    @property
    def celsius(self) -> float | None:
        """The CPU's temperature, or else that of the first sensor, whatever it measures."""
        return self.thermal.cpu_c if self.thermal.cpu_c is not None else _celsius(self.temperature)

    @property
    def api_level(self) -> int | None:
        """Android's API level."""
        return _whole(self.api)

    @property
    def before(self) -> HostBefore:
        """Clock and temperature, for facts that were asked before a run."""
        return HostBefore(_whole(self.clock_khz), self.celsius)

    @property
    def device_name(self) -> str | None:
        """Such as "Google Pixel 8 (Tensor G3)"."""
        name = " ".join(filter(None, (self.manufacturer, self.model)))
        return (f"{name} ({self.soc})" if self.soc else name) or None


QUESTIONS = {  # field of Facts -> what to ask the device's shell
    "manufacturer": "getprop ro.product.manufacturer",
    "model": "getprop ro.product.model",
    "soc": "getprop ro.soc.model",
    "api": "getprop ro.build.version.sdk",
    "abi": "getprop ro.product.cpu.abi",
    "machine": "uname -m",
    "kernel": "uname -r",
    "cores": "nproc",
    "governor": f"cat {CPU}scaling_governor",
    "clock_khz": f"cat {CPU}scaling_cur_freq",
    "temperature": "cat /sys/class/thermal/thermal_zone0/temp",
}


def ask(device: AdbTransport) -> Facts:
    """Ask everything in two commands. Raises DeviceError when the device's shell fails."""
    script = "; ".join(
        f"echo {name}=$({question} 2>/dev/null)" for name, question in QUESTIONS.items()
    )
    code, text = device.shell(script)
    if code != 0:
        raise DeviceError(
            f"the device's shell ended with exit code {code}: {clean(text)}",
            "try `adb shell` by hand",
        )
    rows = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    answers = {name: clean(rows.get(name, ""))[:MAX_FACT] for name in QUESTIONS}
    return Facts(**answers, thermal=_thermal(device))


def _thermal(device: AdbTransport) -> Thermal:
    """What the thermal service says; nothing where there is none, as before Android 10."""
    try:
        _, told = device.shell("dumpsys thermalservice 2>/dev/null")
    except DeviceError:  # a service that hangs or floods does not stop the measurement
        return Thermal()
    return read_thermal(told)


def host(before: Facts, after: Facts) -> Host:
    """The "host" block of a run between two sets of facts."""
    return Host(
        machine=after.machine,
        cpu=after.device_name,
        cores=_whole(after.cores),
        kernel=after.kernel,
        python=None,
        governor=after.governor or None,
        clock_khz=_whole(after.clock_khz),
        temperature_c=after.celsius,
        throttled=None,
        before=before.before,
    )


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,12}", text) else None


def _celsius(text: str) -> float | None:
    """Degrees Celsius from the kernel's thousandths."""
    return int(text) / 1000.0 if re.fullmatch(r"-?\d{1,6}", text) else None
