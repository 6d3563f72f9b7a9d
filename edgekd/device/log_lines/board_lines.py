"""Lines of the tools that tell how hot and how fast a board or a phone is."""

from __future__ import annotations

from edgekd.device import edgebench
from edgekd.device.log_lines.line import NUMBER, LogLine, Says, Tool

THROTTLED = LogLine(
    Tool.VCGENCMD,
    Says.FIGURE,
    edgebench.THROTTLED_LINE,
    "all",
    "throttled=0x50000",
    "Bits 0 to 3: under-voltage, clock capped, throttled, soft temperature limit, now. Bits 16 to "
    "19: the same since the board was started.",
    "raspberrypi/documentation, computers/os/graphics-utilities, vcgencmd",
)
NO_ANSWER = LogLine(
    Tool.VCGENCMD,
    Says.HARMLESS,
    r"(?:error=\d+ error_msg=.*|VCHI initialization failed|Can\'t open device file: .*)",
    "all",
    'error=1 error_msg="Command not registered"',
    "No Raspberry Pi, a firmware without this command, or a user outside the group `video`.",
    "github.com/raspberrypi/utils, vcgencmd/vcgencmd.c",
)
THERMAL_STATUS = LogLine(
    Tool.THERMAL_SERVICE,
    Says.FIGURE,
    r"Thermal Status: (?P<status>\d{1,2})",
    "Android 10 and later",
    "Thermal Status: 0",
    "0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown.",
    "frameworks/base, ThermalManagerService.java, and os/PowerManager.java",
)
CACHED_TEMPERATURES = LogLine(
    Tool.THERMAL_SERVICE,
    Says.PROGRESS,
    r"Cached temperatures:",
    "Android 10 and later",
    "Cached temperatures:",
    "Temperatures follow that may be old.",
    "frameworks/base, ThermalManagerService.java",
)
LIVE_TEMPERATURES = LogLine(
    Tool.THERMAL_SERVICE,
    Says.PROGRESS,
    r"Current temperatures from HAL:",
    "Android 10 and later",
    "Current temperatures from HAL:",
    "Temperatures follow that were read just now.",
    "frameworks/base, ThermalManagerService.java",
)
TEMPERATURE = LogLine(
    Tool.THERMAL_SERVICE,
    Says.FIGURE,
    rf"Temperature\{{mValue=(?P<celsius>{NUMBER}), mType=(?P<type>-?\d+), mName=(?P<name>[^,]*), "
    r"mStatus=(?P<status>\d+)\}",
    "Android 10 and later",
    "Temperature{mValue=25.6, mType=0, mName=AP, mStatus=0}",
    "One sensor in degrees Celsius. Type 0 is the CPU, 1 the GPU, 2 the battery, 3 the skin.",
    "frameworks/base, os/Temperature.java",
)

LINES = tuple(value for value in list(vars().values()) if isinstance(value, LogLine))
