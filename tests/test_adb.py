"""A real adb client and server, with a scripted device behind them: runs and faults."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from adbd import Device, have_adb
from bench_answers import processes_with
from tiny_tflite import tiny

from edgekd.app import cli
from edgekd.core.errors import DeviceError, EdgeKDError, RecipeError
from edgekd.core.records import to_json
from edgekd.device import adb, android, benchmark_output, benchmark_tool, transports
from edgekd.device.android_delegate import AndroidDelegate
from edgekd.device.bench_settings import BenchSettings
from edgekd.device.npu_libraries import npu_libraries_of
from edgekd.device.transports import Job, Ran
from edgekd.settings.device_profiles import load_profile

SETTINGS = BenchSettings(threads=2, runs=7, min_seconds=0.0, timeout_s=20.0)
HOST = load_profile("host")
LOGS = Path(__file__).parent / "data" / "device_logs"

LOG = (
    "INFO: STARTING!\n"
    "INFO: Num threads: [2]\n"
    "INFO: Graph: [model.tflite]\n"
    "INFO: Replacing 31 out of 31 node(s) with delegate (TfLiteXNNPackDelegate) "
    "node, yielding 1 partitions for subgraph 0.\n"
    "INFO: The input model file size (MB): 13.6828\n"
    "INFO: count=5 first=151333 curr=104696 min=103266 max=105607 avg=113841 std=490\n"
    "INFO: Running benchmark for at least 7 iterations and at least 0 seconds but "
    "terminate if exceeding 150 seconds.\n"
    "INFO: count=50 first=104978 curr=104696 min=103266 max=105607 avg=104012 "
    "std=490 p5=103300 median=104000 p95=105500\n"
    "INFO: Inference timings in us: Init: 224228, First inference: 151333, Warmup "
    "(avg): 113841, Inference (avg): 1.04012e+05\n"
    "INFO: Memory footprint delta from the start of the tool (MB): init=31 overall=65.6094\n"
    "INFO: Overall peak memory footprint (MB) via periodic monitoring: 71.25\n"
)


def proto() -> bytes:
    """A BenchmarkResult as the tool writes it: a name, latencies of 1 to 10 ms, memory, counts."""
    latency = b"".join(
        struct.pack("<Bf", number << 3 | 5, float(number)) for number in range(1, 11)
    )
    memory = b"\x08\xac\x02\x10\x90\x03" + struct.pack("<Bf", 3 << 3 | 5, 71.5)
    misc = struct.pack("<Bf", 1 << 3 | 5, 13.5) + b"\x10\x32\x18\x05"
    return b"".join(
        struct.pack("<BB", number << 3 | 2, len(part)) + part
        for number, part in ((1, b"name"), (2, latency), (3, memory), (4, misc))
    )


@pytest.fixture(scope="module")
def adb_home(tmp_path_factory):
    """An adb server of its own for these tests."""
    if not have_adb():
        pytest.skip("adb is not installed: apt-get install adb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    changed = {
        "ANDROID_ADB_SERVER_PORT": str(port),
        "HOME": str(home),
        "ADB_MDNS": "0",
        "TMPDIR": str(home),
    }
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    subprocess.run(["adb", "start-server"], check=True, capture_output=True)
    yield home
    subprocess.run(["adb", "kill-server"], check=True, capture_output=True)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def plug(adb_home, tmp_path):
    """Attaches scripted devices. After the test, no folder or process of ours may be left
    on them.
    """
    devices: list[Device] = []

    def attach(**options: object) -> Device:
        device = Device(tmp_path / f"device-{len(devices)}", **options)  # type: ignore[arg-type]
        devices.append(device)
        getprop = (
            "#!/bin/sh\ncase $1 in *manufacturer) echo Acme;; *product.model) echo 'Phone 9';; "
            "*sdk) echo 33;; *abi) echo arm64-v8a;; esac\n"
        )
        device.program("getprop", getprop)
        subprocess.run(
            ["adb", "connect", device.serial], check=True, capture_output=True, timeout=60
        )
        return device

    yield attach
    for device in devices:
        subprocess.run(
            ["adb", "disconnect", device.serial], check=False, capture_output=True, timeout=20
        )
        device.stop()
        assert not list(device.root.iterdir())
    end = time.monotonic() + 60
    while processes_with(str(tmp_path)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not processes_with(str(tmp_path))


def tool(
    folder: Path, log: str = LOG, result: bytes | None = None, before: str = "", code: int = 0
) -> Path:
    """A script in the place of benchmark_model, with given output, which records its arguments."""
    path = folder / "benchmark_model"
    wanted = f"open('result.pb', 'wb').write({result!r})" if result is not None else ""
    path.write_text(
        f"#!{sys.executable} -I\nimport json, os, sys, time\n{before}\n"
        f"started = open({str(folder / 'started')!r}, 'w')\n"
        "json.dump([sys.argv[1:], sorted(os.sched_getaffinity(0))], started)\nstarted.close()\n"
        f"print({log!r})\n{wanted}\nsys.exit({code})\n"
    )
    return path


def measured(plug, tmp_path, settings=SETTINGS, profile=HOST, **how):
    """(bench JSON, the tool's arguments, its cores) of a run on one scripted device."""
    device = plug()
    found_tool = tool(tmp_path, **how)
    with adb.attached(device.serial) as phone:
        found = to_json(
            android.bench(tiny().model, profile, phone, found_tool, settings, lambda share: None)
        )
    words, cores = json.loads((tmp_path / "started").read_text())
    return found, words, cores


def test_a_result_proto_becomes_a_bench(plug, tmp_path):
    settings = BenchSettings(threads=2, runs=7, min_seconds=0.0, cores=(0,))
    found, words, cores = measured(plug, tmp_path, settings, result=proto())
    assert "--graph=model.tflite" in words
    assert {"--num_threads=2", "--num_runs=7", "--use_xnnpack=true"} <= set(words)
    assert cores == [0]
    latency = found["latency_ms"]
    assert (latency["p50"], latency["p95"], latency["mean"], latency["load"], latency["p99"]) == (
        5.0,
        7.0,
        1.0,
        8.0,
        None,
    )
    assert found["memory_kib"]["peak"] == 73216
    assert found["runtime"]["name"] == "benchmark_model"
    assert found["host"]["cpu"] == "Acme Phone 9"
    assert (found["transport"], found["emulated"], found["golden"]) == ("adb", False, None)
    assert list(found)[:6] == [
        "schema",
        "model_sha256",
        "runner_version",
        "profile",
        "transport",
        "runtime",
    ]
    json.dumps(found, allow_nan=False)


def test_a_log_alone_is_read_too(plug, tmp_path):
    found, _, _ = measured(plug, tmp_path)
    latency = found["latency_ms"]
    assert (latency["p50"], latency["p95"], latency["mean"], latency["first"], latency["load"]) == (
        104.0,
        105.5,
        104.012,
        151.333,
        224.228,
    )
    assert found["memory_kib"]["peak"] == 72960


def test_a_device_without_shell_v2(plug, tmp_path):
    device = plug(features="cmd")
    with adb.attached(None) as phone:
        found = android.bench(
            tiny().model, HOST, phone, tool(tmp_path), SETTINGS, lambda share: None
        )
        assert phone.shell("exit 5")[0] == 5
    assert found.latency_ms.p50 == 104.0
    assert device.shells


@pytest.mark.parametrize(
    ("delegate", "flags"),
    [
        ("gpu", {"--use_gpu=true"}),
        ("nnapi", {"--use_nnapi=true", "--disable_nnapi_cpu=true"}),
        ("nnapi:acme-npu", {"--use_nnapi=true", "--nnapi_accelerator_name=acme-npu"}),
        ("npu", {"--use_npu=true", "--dispatch_library_path=."}),
        ("none", {"--use_xnnpack=false"}),
    ],
)
def test_delegates(delegate, flags):
    assert flags <= set(AndroidDelegate(delegate).flags())


def test_a_delegate_that_took_part_of_the_graph_is_told(plug, tmp_path):
    log = LOG.replace(
        "Replacing 31 out of 31 node(s) with delegate (TfLiteXNNPackDelegate)",
        "Replacing 20 out of 31 node(s) with delegate (TfLiteNnapiDelegate)",
    )
    settings = BenchSettings(threads=1, runs=5, delegate="nnapi:acme-npu")
    found, _, _ = measured(plug, tmp_path, settings, log=log)
    assert any("took 20 of 31 operators" in warning for warning in found["warnings"])
    assert found["runtime"]["delegate"] == "nnapi:acme-npu"


NPU = load_profile("android-npu-qualcomm")


def test_an_npu_gets_its_vendor_s_libraries(plug, tmp_path):
    """They lie beside the tool, and the loader finds them there."""
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for name in ("libLiteRtDispatch_Qualcomm.so", "libQnnHtp.so"):
        (libraries / name).write_bytes(name.encode())
    (libraries / "README.md").write_text("stays here")
    device = plug()
    seen = (
        "import pathlib\n"
        f"pathlib.Path({str(tmp_path / 'seen')!r}).write_text(json.dumps([sorted(n for n in "
        "os.listdir('.') if n[0] != '.'), "
        "os.environ['LD_LIBRARY_PATH'] == os.environ['ADSP_LIBRARY_PATH'] == os.getcwd()]))\n"
    )
    program = tool(tmp_path, log=(LOGS / "benchmark_npu.txt").read_text(), before=seen)
    with adb.attached(device.serial) as phone:
        found = android.bench(
            tiny().model, NPU, phone, program, SETTINGS, lambda share: None, libraries
        )
    assert json.loads((tmp_path / "seen").read_text()) == [
        [
            "benchmark_model",
            "libLiteRtDispatch_Qualcomm.so",
            "libQnnHtp.so",
            "model.tflite",
        ],
        True,
    ]
    assert "--use_npu=true" in json.loads((tmp_path / "started").read_text())[0]
    assert found.runtime.delegate == "npu"
    assert found.latency_ms.mean == 0.36
    assert any("NPU plug-in took 62 of 64" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("delegate", "names", "said"),
    [
        ("npu", None, "the delegate npu needs the libraries of the NPU's vendor"),
        ("npu", ["libQnnHtp.so"], "holds no libLiteRtDispatch_*.so"),
        ("gpu", ["libLiteRtDispatch_Qualcomm.so"], "and the delegate is gpu"),
    ],
)
def test_a_delegate_and_libraries_that_do_not_go_together(tmp_path, delegate, names, said):
    for name in names or ():
        (tmp_path / name).touch()
    with pytest.raises((DeviceError, RecipeError), match=re.escape(said)) as raised:
        npu_libraries_of(AndroidDelegate(delegate), tmp_path if names else None)
    assert "--npu-libraries" in raised.value.next_step


def test_a_hot_phone_whose_delegate_ran_nothing(plug, tmp_path):
    """The phone gets hot during the run, and NNAPI takes every operator and runs none."""
    thermal = (LOGS / "thermalservice.txt").read_text()
    device = plug()
    device.program(
        "dumpsys", f"#!/bin/sh\n[ -e {tmp_path}/started ] || exit 0\ncat <<'E'\n{thermal}E\n"
    )
    told = tool(tmp_path, log=(LOGS / "android_nnapi_nothing.txt").read_text())
    settings = BenchSettings(threads=1, runs=5, delegate="nnapi:acme-npu")
    with adb.attached(device.serial) as phone:
        found = android.bench(tiny().model, HOST, phone, told, settings, lambda share: None)
    assert found.runtime.delegate == "none"
    assert found.host.temperature_c == 48.25
    assert any("nnapi took no operator" in warning for warning in found.warnings)
    assert any("2 (moderate) after" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    "name", ["", "tpu", "nnapi:", "nnapi:a b", "nnapi:a;id", "gpu:x", "xnnpack --verbose"]
)
def test_names_of_delegates_that_are_none(name):
    with pytest.raises(RecipeError, match="is not one that runs over adb"):
        AndroidDelegate(name)


def test_android_versions_and_nnapi():
    delegate = AndroidDelegate("nnapi:x")
    with pytest.raises(DeviceError, match="API level 28"):
        delegate.warnings(28)
    assert delegate.warnings(33) == []
    assert "deprecated" in delegate.warnings(35)[0]


def test_several_devices_ask_for_a_serial(plug, tmp_path):
    first, second = plug(), plug()
    with (
        pytest.raises(DeviceError, match="2 Android devices are attached") as caught,
        adb.attached(None),
    ):
        pass
    assert first.serial in str(caught.value)
    assert second.serial in str(caught.value)
    assert "--adb SERIAL" in str(caught.value)
    with adb.attached(second.serial) as phone:
        assert phone.shell("echo here") == (0, "here")
    assert len(second.shells) == 1
    assert not first.shells


def test_no_device_and_another_serial(plug, adb_home):
    with pytest.raises(DeviceError, match="no Android device is attached"), adb.attached(None):
        pass
    plug()
    for serial in ("emulator-5554", "-d", "a b; 'c'", "\x1b[2J"):
        with (
            pytest.raises(DeviceError, match="is attached; these are") as caught,
            adb.attached(serial),
        ):
            pass
        assert str(caught.value).replace("\n  next: ", "").isprintable()


def test_a_device_that_takes_no_key(plug):
    plug(authorized=False)
    end = time.monotonic() + 60
    text = ""
    while (
        "allow USB debugging" not in text and time.monotonic() < end
    ):  # the state settles when all keys were tried
        with pytest.raises(DeviceError) as caught, adb.attached(None):
            pass
        text = str(caught.value)
        time.sleep(0.05)
    assert "allow USB debugging" in text


def test_a_server_that_was_not_running_does_not_stay(adb_home, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    with pytest.raises(DeviceError, match="no Android device"), adb.attached(None):
        pass
    assert not adb._server_runs()


def test_no_adb(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(DeviceError, match="adb is not on PATH"), adb.attached(None):
        pass


def test_files_of_any_name_travel_as_they_are(plug):
    plug()
    name, data = "a 'b' \"c\"; $(touch d)", bytes(range(256)) * 500 + b"\r\n"
    with adb.attached(None) as phone:
        ran = phone.run(
            Job(
                {name: data},
                [
                    "sh",
                    "-c",
                    'cat "$1" > "$1.out"; ln -s /etc/passwd link; echo hi; exit 3',
                    "sh",
                    name,
                ],
                [f"{name}.out", "link", "none"],
                20.0,
            ),
            lambda share: None,
        )
    assert ran == Ran(3, {f"{name}.out": data}, "hi")


FAULTS = {
    "the tool ends with an error": (
        {"log": "ERROR: Failed to apply GPU delegate", "code": 1},
        "Failed to apply GPU",
    ),
    "no such accelerator": (
        {"log": "NNAPI accelerators available: [acme-npu,nnapi-reference]\nERROR: none", "code": 1},
        "accelerators there: acme-npu",
    ),
    "a crash": ({"before": "import signal; os.kill(os.getpid(), signal.SIGSEGV)"}, "exit code 139"),
    "nothing said": ({"log": ""}, "told no time"),
    "escape sequences": (
        {"log": "\x1b]0;owned\x07\x1b[2J error", "code": 1},
        "ended with exit code 1",
    ),
    "a damaged proto": ({"result": b"\x12\xff\xff\xff\xff\x0f"}, "is damaged"),
    "a proto without end": ({"result": b"\x80" * 100}, "is damaged"),
    "NaN": ({"result": b"\x12\x05\x0d\x00\x00\xc0\x7f"}, "are not numbers"),
    "a proto of 100 MB": (
        {"before": "os.truncate(os.open('result.pb', os.O_CREAT | os.O_RDWR), 10**8)"},
        "is the most that is read",
    ),
    "a log of 100 MB": ({"log": "x", "before": "os.ftruncate(1, 10**8)"}, "told no time"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_goes_wrong_on_the_device_is_told(plug, tmp_path, case):
    how, words = FAULTS[case]
    with pytest.raises(EdgeKDError) as caught:
        measured(plug, tmp_path, **how)
    text = str(caught.value)
    assert words in text
    assert text.replace("\n  next: ", "").isprintable()
    assert len(text) < 2_000


def test_a_device_that_says_strange_things_of_itself(plug, tmp_path):
    device = plug()
    device.program(
        "getprop", "#!/bin/sh\nprintf 'a\\033[2J\\007=b c'; head -c 3000 /dev/zero | tr '\\0' x\n"
    )
    with adb.attached(None) as phone:
        found = android.bench(
            tiny().model, HOST, phone, tool(tmp_path), SETTINGS, lambda share: None
        )
    assert found.host.cpu.isprintable()
    assert len(found.host.cpu) < 500


def test_a_full_device(plug, tmp_path):
    device = plug()
    device.full = True
    with pytest.raises(DeviceError, match="No space left on device"), adb.attached(None) as phone:
        android.bench(tiny().model, HOST, phone, tool(tmp_path), SETTINGS, lambda share: None)


def test_a_tool_for_another_processor(plug, tmp_path):
    plug()
    path = tmp_path / "benchmark_model"
    path.write_bytes(b"\x7fELF" + b"\0" * 14 + struct.pack("<H", 62) + b"\0" * 100)
    with (
        pytest.raises(DeviceError, match="built for x86_64, and the device runs arm64-v8a"),
        adb.attached(None) as phone,
    ):
        android.bench(tiny().model, HOST, phone, path, SETTINGS, lambda share: None)


def test_a_tool_that_cannot_be_started(plug, tmp_path):
    plug()
    path = tmp_path / "benchmark_model"
    path.write_text("#!/no/such/interpreter\n")
    with (
        pytest.raises(DeviceError, match="cannot be started on the device"),
        adb.attached(None) as phone,
    ):
        android.bench(tiny().model, HOST, phone, path, SETTINGS, lambda share: None)


def test_a_job_that_takes_too_long(plug):
    plug()
    with pytest.raises(DeviceError, match="did not end within 1 s"), adb.attached(None) as phone:
        phone.run(Job({}, ["sleep", "63"], [], 1.0), lambda share: None)
    assert not processes_with("sleep 63 ")


def test_a_device_that_is_unplugged(plug):
    """The connection is cut in the middle of a job.

    adb then connects again by itself, as to a device that is plugged in again.
    """
    device = plug()

    def cut() -> None:
        while not any("sleep" in command for command in device.shells):
            time.sleep(0.02)
        time.sleep(0.2)
        device.unplug()

    cutter = threading.Thread(target=cut, daemon=True)
    cutter.start()
    with pytest.raises(DeviceError, match="was lost"), adb.attached(None) as phone:
        phone.run(Job({}, ["sleep", "30"], [], 20.0), lambda share: None)
    cutter.join()
    for left in (
        device.root.iterdir()
    ):  # a device that is gone cannot be tidied, and the error says where to look
        assert left.name.startswith("edgekd-")
        for path in left.iterdir():
            path.unlink()
        left.rmdir()


def test_benchmark_model_is_found_and_never_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(benchmark_tool.VARIABLE, raising=False)
    with pytest.raises(DeviceError, match="EdgeKD downloads none"):
        benchmark_tool.find_tool(None)
    path = tool(tmp_path)
    path.chmod(0o755)
    assert benchmark_tool.find_tool(None) == path
    monkeypatch.setenv(benchmark_tool.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(DeviceError, match="is not a file"):
        benchmark_tool.find_tool(None)


def test_logs_of_other_versions():
    old = (
        "count=50 first=80000 curr=79000 min=78000 max=90000 avg=79760.9 std=5\n"
        "Average inference timings in us: Warmup: 83235, Init: 38467, Inference: 79760.9\n"
    )
    found = benchmark_output.parse_log(old)
    assert (found["avg"], found["init"], found["min"], found["num_runs"]) == (
        79.7609,
        38.467,
        78.0,
        50.0,
    )
    new = (
        "Model initialization: 12.50 ms\nWarmup (first):       9.00 ms\n"
        "Warmup (avg):         8.00 ms (3 runs)\nInference (avg):      7.25 ms (50 runs)\n"
        "Inference (min):      7.00 ms\nInference (median):   7.20 ms\n"
    )
    found = benchmark_output.parse_log(new)
    assert (
        found["avg"],
        found["init"],
        found["first_inference"],
        found["min"],
        found["median"],
    ) == (7.25, 12.5, 9.0, 7.0, 7.2)
    assert benchmark_output.parse_log("count=x\nInference timings in us: Init: 1.2.3") == {}


def test_limits_hold_for_what_a_device_sends(plug, monkeypatch):
    monkeypatch.setattr(transports, "MAX_FILE_BYTES", 1000)
    plug()
    with (
        pytest.raises(DeviceError, match="1001 bytes; 1000 is the most"),
        adb.attached(None) as phone,
    ):
        phone.run(
            Job({}, ["sh", "-c", "head -c 1001 /dev/zero > out"], ["out"], 20.0), lambda share: None
        )


def test_over_adb_from_the_command_line(plug, tmp_path, capsys):
    device, path = plug(), tmp_path / "a 'model'; $(x).tflite"
    path.write_bytes(tiny().model)
    words = [
        "bench",
        str(path),
        "--adb",
        device.serial,
        "--benchmark-model",
        str(tool(tmp_path)),
        "--out",
        str(tmp_path),
    ]
    code = cli.main([*words, "--delegate", "nnapi:acme-npu", "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert json.loads(out)["runtime"]["delegate"] == "nnapi:acme-npu"
    assert len(list((tmp_path / "bench").iterdir())) == 1
    assert cli.main([*words, "--soak", "1"]) == 2
    assert "--soak needs EdgeKD's own runner" in capsys.readouterr().err


def typed(device: Device, tool_file: Path, folder: Path) -> list[str]:
    """The arguments of a bench, with a model and a profile whose names need quoting in a shell."""
    (folder / "a 'model'; $(x).tflite").write_bytes(tiny().model)
    profile = folder / 'my "phone"; $(id).toml'
    profile.write_text(
        'extends = "android-cpu"\nname = "my \\"phone\\"; $(id)"\ntitle = "mine"\n'
        "measured_on_hardware = false\n"
    )
    return [
        "bench",
        str(folder / "a 'model'; $(x).tflite"),
        "--profile",
        str(profile),
        "--adb",
        device.serial,
        "--benchmark-model",
        str(tool_file),
        "--runs",
        "7",
        "--timeout",
        "20",
        "--out",
        str(folder),
    ]


@pytest.mark.parametrize("case", [*FAULTS, "no space", "unplugged"])
def test_each_fault_is_one_message_at_the_command_line(plug, tmp_path, capsys, case):
    device, how = plug(), FAULTS[case][0] if case in FAULTS else {}
    device.full = case == "no space"
    words = typed(device, tool(tmp_path, **how), tmp_path)
    if case == "unplugged":
        subprocess.run(
            ["adb", "disconnect", device.serial], check=True, capture_output=True, timeout=60
        )
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("edgekd: error:"), "Traceback" in err) == ("", 1, False)
    assert err.replace("\n", "").isprintable()
    assert not (tmp_path / "bench").exists()


def test_a_model_and_a_profile_of_odd_names_over_adb(plug, tmp_path, capsys):
    device = plug()
    assert cli.main(typed(device, tool(tmp_path, result=proto()), tmp_path)) == 0, (
        capsys.readouterr().err
    )
    (written,) = (tmp_path / "bench").iterdir()
    assert json.loads(written.read_text())["profile"] == 'my "phone"; $(id)'
    assert written.name.startswith("my_phone_id-adb-")
