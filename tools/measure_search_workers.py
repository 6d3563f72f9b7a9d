"""Four workers, one PostgreSQL storage, two of them killed: what a search makes of it.

    python tools/measure_search_workers.py [--out DIR] [--seeds 3]

It starts a PostgreSQL server of its own on this machine, in a folder that it removes again, and
prints: how often each task was run, what became of the killed workers' tasks, and the networks that
four workers and one worker recommend, for each seed. Phantom images and tiny networks, so that it
takes minutes. PostgreSQL refuses to run as root, so that root runs it as the user `postgres` or
`nobody`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgekd.search import lease, storage
from edgekd.search.ledger import Kind, Ledger, State, Trial

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
SPACE = """\
students = ["mobilenetv2_035", "mobilenetv3_small_050", "mnasnet_small"]
input_px = [32, 64]
pruned = [0.0]
[edits]
hard_swish = [""]
squeeze_excite = [""]
"""
SETTINGS = ("distil.epochs=9", "qat.epochs=1", "app_inputs.images=16", "data.calibration=32")


def main() -> None:
    """Run the searches and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=None, help="keep the searches in this folder")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    with contextlib.ExitStack() as kept:
        out = asked.out or Path(kept.enter_context(tempfile.TemporaryDirectory()))
        out.mkdir(parents=True, exist_ok=True)
        url = kept.enter_context(server())
        (out / "space.toml").write_text(SPACE)
        print(f"seed {0}: four workers, two of which are killed")
        trials = four_workers(out, url, 0)
        told(trials)
        for seed in range(asked.seeds):
            alone = search(out, f"one-{seed}", seed, ())
            alone.wait()
            for name in ("four-0", f"one-{seed}") if seed == 0 else (f"one-{seed}",):
                print(f"{name}: {front(out / name)}")


def four_workers(out: Path, url: str, seed: int) -> tuple[Trial, ...]:
    """Search with four workers, and kill two of them in the middle of a training."""
    name = f"four-{seed}"
    command = search(out, name, seed, ("--workers", "4", "--storage", url))
    ledger, killed = None, list[int]()
    while command.poll() is None:
        time.sleep(0.5)
        ledger = ledger or Ledger(storage.open_storage(url), url, name, lease.this_worker())
        running = [
            each.worker.pid
            for each in ledger.trials()
            if each.state is State.RUNNING and each.task.kind is Kind.RUNG and each.worker
        ]
        if len(killed) < 2 and running and len(running) >= 2:
            victim = next((pid for pid in running if pid not in killed), None)
            if victim is not None:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
                print(f"  killed worker {victim}")
                time.sleep(5)
    print(f"  exit code {command.returncode}")
    assert ledger is not None
    return ledger.trials()


def search(out: Path, name: str, seed: int, more: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a search."""
    words = [
        *(sys.executable, "-m", "edgekd", "search", "--data", "phantom:300", "--teacher", "none"),
        *("--max-latency", "2ms", "--space", str(out / "space.toml"), "--seed", str(seed)),
        *("--budget", "20m", "--out", str(out / name), *more),
    ]
    words += [word for text in SETTINGS for word in ("--set", text)]
    log = (out / f"{name}.log").open("wb")
    return subprocess.Popen(words, stdout=log, stderr=log)


def told(trials: Sequence[Trial]) -> None:
    """Print how often each task was run, and to what end."""
    done = Counter(str(each.task) for each in trials if each.state is State.DONE)
    lost = [str(each.task) for each in trials if each.state is State.LOST]
    workers = {each.worker.name for each in trials if each.worker}
    print(f"  {len(trials)} trials of {len(workers)} workers: {Counter(t.state for t in trials)}")
    print(f"  tasks done: {len(done)}, done twice: {sum(n > 1 for n in done.values())}")
    for task in lost:
        print(f"  lost with its worker: {task}; done by another one: {done[task] == 1}")


def front(folder: Path) -> str:
    """The networks of a front and their scores, and the one that is recommended."""
    found = json.loads((folder / "search.json").read_text())
    rows = [
        f"{row['candidate']} {row['score']:.3f} ({row['score_ci95'][0]:.3f} to "
        f"{row['score_ci95'][1]:.3f})"
        for row in found["fronts"][0]["points"]
    ]
    first = sorted(
        (row["score"], row["candidate"]) for row in found["trials"] if row["score"] is not None
        and row["rung"] == 2
    )  # fmt: skip
    recommended = found["recommended"] and found["recommended"]["candidate"]
    return f"recommends {recommended}; built: {'; '.join(rows)}; last rung: {first}"


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A PostgreSQL server on this machine while the context lasts; yields its URL."""
    folder = Path(tempfile.mkdtemp(prefix="edgekd-postgres-"))
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": "/"}
    try:
        user = runner(folder)
        prefix = ["runuser", "-u", user, "--"] if user else []
        data = folder / "data"
        subprocess.run(
            [*prefix, str(PROGRAMS / "initdb"), "-D", str(data), "-U", "edgekd", "-A", "trust"],
            check=True,
            **quiet,
        )
        # A socket in its own folder, so that no port is needed.
        words = [*prefix, str(PROGRAMS / "pg_ctl"), "-D", str(data), "-w"]
        options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
        log = str(folder / "server.log")
        subprocess.run([*words, "-l", log, "-o", options, "start"], check=True, **quiet)
        try:
            yield f"postgresql+psycopg://edgekd@/postgres?host={folder}"
        finally:
            subprocess.run([*words, "-m", "fast", "stop"], check=True, **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def runner(folder: Path) -> str:
    """The user that runs the server: "" for this one, which must not be root."""
    if os.geteuid() != 0:
        return ""
    import pwd

    names = [entry.pw_name for entry in pwd.getpwall()]
    user = "postgres" if "postgres" in names else "nobody"
    shutil.chown(folder, user)
    return user


if __name__ == "__main__":
    main()
