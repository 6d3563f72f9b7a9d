"""The job files of examples/cluster start torchrun and `edgekd build` with options that exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from edgekd.app import cli
from tests.conftest import REPOSITORY

CLUSTER = REPOSITORY / "examples" / "cluster"
# Of `man sbatch`.
DIRECTIVES = {
    "cpus-per-task",
    "gpus-per-node",
    "job-name",
    "nodes",
    "ntasks-per-node",
    "open-mode",
    "output",
    "requeue",
    "time",
}


def started(words: list[str]) -> Any:
    """What a command of torchrun asks for, with the build that it starts as `build`."""
    assert words[0] == "torchrun"
    asked = get_args_parser().parse_args(words[1:])
    assert asked.module
    assert asked.training_script == "edgekd"
    asked.build = cli.make_parser().parse_args(asked.training_script_args)
    assert asked.build.verb == "build"
    return asked


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The environment of a job of Slurm, whose `srun` prints its arguments."""
    for name, body in {
        "srun": 'printf "%s\\n" "$@"',
        "scontrol": 'echo "$3" | tr , "\\n"',
    }.items():
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(0o755)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "one,two",
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": "7",
    }


def test_slurm(cluster: dict[str, str]) -> None:
    file = CLUSTER / "slurm.sbatch"
    found = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", file.read_text(), re.MULTILINE))
    assert set(found) == DIRECTIVES
    assert file.read_text().count("#SBATCH") == len(found)
    done = subprocess.run(
        ["bash", file, "a recipe.toml", "/shared/out"],
        env=cluster,
        capture_output=True,
        text=True,
        check=True,
    )
    option, *words = done.stdout.splitlines()
    assert option == "--kill-on-bad-exit=1"
    asked = started(words)
    assert (asked.nnodes, asked.rdzv_endpoint, asked.rdzv_id) == (found["nodes"], "one:29500", "7")
    assert (asked.build.recipe, asked.build.out) == ("a recipe.toml", "/shared/out")


def test_slurm_without_a_recipe(cluster: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", CLUSTER / "slurm.sbatch"], env=cluster, capture_output=True, text=True
    )
    assert done.returncode
    assert "name a recipe on the shared disk" in done.stderr


def test_kubernetes() -> None:
    service, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    assert service["spec"] == {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {"job-name": name},
    }
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    assert {each["name"] for each in container["volumeMounts"]} == {
        each["name"] for each in pod["volumes"]
    }
    (line,) = container["args"]
    rank = line.replace('"$JOB_COMPLETION_INDEX"', "1")
    asked = started(shlex.split(rank)[1:])
    assert int(asked.nnodes) == spec["completions"] == spec["parallelism"]
    assert (asked.node_rank, asked.nproc_per_node) == (1, "gpu")
    assert asked.master_addr == f"{name}-0.{pod['subdomain']}"
