"""The scripts of launch/: valid bash, short, documented, and consistent with the package."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

from affect_jax.core import processes

LAUNCH = pathlib.Path(__file__).resolve().parents[1] / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
NAMES = [path.name for path in SCRIPTS]


def test_shellcheck_reports_no_problem():
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed; the extra `dev` has it")
    options = ["--shell=bash", "--external-sources", "--source-path=SCRIPTDIR:SCRIPTDIR/.."]
    command = [shellcheck, *options, *map(str, SCRIPTS)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_scripts_are_short_strict_and_documented(path):
    lines = path.read_text().splitlines()
    assert len(lines) < 40
    assert "set -euo pipefail" in lines
    if path.name != "environment.sh":
        assert lines[0] == "#!/usr/bin/env bash"
        assert lines[1].startswith("#")
    if path.suffix == ".sh" and path.name != "environment.sh":
        assert os.access(path, os.X_OK)


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_scripts_name_the_extras_to_install(path):
    """Without them, the sourced script would take the first argument of its caller for extras."""
    lines = re.findall(r"^source .*/environment.sh.*", path.read_text(), re.MULTILINE)
    assert all(len(shlex.split(line)) == 3 for line in lines), lines


@pytest.mark.parametrize(
    "name", ["local.sh", "multiprocess.sh", "slurm.sbatch", "tpu_pod.sh", "k8s.yaml"]
)
def test_launchers_document_settings_data_and_resume(name):
    comments = [line for line in (LAUNCH / name).read_text().splitlines() if line.startswith("# ")]
    for start in ("Set:", "Data:", "To resume:"):
        assert any(line.startswith(f"# {start}") for line in comments), f"{start} is missing"


def test_launchers_set_the_variables_that_initialize_reads():
    for name in ("multiprocess.sh", "slurm.sbatch", "k8s.yaml"):
        text = (LAUNCH / name).read_text()
        for variable in processes.VARIABLES:
            assert variable in text, f"{name} sets no {variable}"


def test_job_set_is_consistent():
    """Checks names and numbers against JobSet's API (v1alpha2) and its host names."""
    manifest = yaml.safe_load((LAUNCH / "k8s.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    name = manifest["metadata"]["name"]
    assert set(manifest["spec"]) == {"failurePolicy", "replicatedJobs"}
    (job,) = manifest["spec"]["replicatedJobs"]
    assert set(job) == {"name", "replicas", "template"} and job["replicas"] == 1
    spec = job["template"]["spec"]
    assert spec["completionMode"] == "Indexed"  # gives each pod its JOB_COMPLETION_INDEX
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    count = int(variables["JAX_NUM_PROCESSES"])
    assert spec["parallelism"] == spec["completions"] == count
    host, port = variables["JAX_COORDINATOR_ADDRESS"].split(":")
    assert host == f"{name}-{job['name']}-0-0.{name}" and int(port) > 1024
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", n) for n in (name, job["name"]))
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    assert all(isinstance(word, str) for word in [*container["command"], *container["args"]])


def test_job_of_the_job_set_matches_the_schema_of_kubernetes():
    """No package has the schema of JobSet, but its Job template is most of the manifest."""
    manifest = yaml.safe_load((LAUNCH / "k8s.yaml").read_text())
    template = manifest["spec"]["replicatedJobs"][0]["template"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, **template}
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(job, version, strict=True)
    job["spec"]["template"]["spec"]["containers"][0]["imag"] = "misspelt"
    with pytest.raises(kubernetes_validate.ValidationError, match="imag"):
        kubernetes_validate.validate(job, version, strict=True)


def test_job_set_passes_the_process_id():
    container = yaml.safe_load((LAUNCH / "k8s.yaml").read_text())["spec"]["replicatedJobs"][0][
        "template"
    ]["spec"]["template"]["spec"]["containers"][0]
    echo = [*container["command"], "sh", "-c", 'echo "$JAX_PROCESS_ID $@"', "x", *container["args"]]
    result = subprocess.run(
        echo, env={**os.environ, "JOB_COMPLETION_INDEX": "1"}, capture_output=True, text=True
    )
    assert result.stdout.startswith("1 python -m affect_jax.main --config=")


def test_tpu_pod_prints_its_commands_in_a_dry_run():
    command = [str(LAUNCH / "tpu_pod.sh"), "--config=a b.py", "--workdir=/mnt/run"]
    environment = {**os.environ, "DRY_RUN": "1", "TPU": "mine", "ZONE": "my-zone"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    lines = [shlex.split(line) for line in result.stdout.splitlines()]
    assert [words[:4] for words in lines] == [
        ["gcloud", "compute", "tpus", words[3]] for words in lines
    ]
    assert [words[3] for words in lines][-3:] == ["queued-resources", "tpu-vm", "tpu-vm"]
    assert all("--zone=my-zone" in words for words in lines)
    (remote_command,) = [word for word in lines[-1] if word.startswith("--command=")]
    assert shlex.split(remote_command)[-2:] == ["--config=a b.py", "--workdir=/mnt/run"]
    assert "AFFECT_JAX_CLUSTER=auto" in remote_command


def test_multiprocess_assigns_devices_and_returns_the_exit_code_of_a_failed_process(tmp_path):
    """A stub in place of python prints its process number, devices and arguments."""
    (tmp_path / "launch").mkdir()
    shutil.copy(LAUNCH / "multiprocess.sh", tmp_path / "launch")
    (tmp_path / "launch" / "environment.sh").write_text("")
    (tmp_path / "python").write_text(
        "#!/usr/bin/env bash\n"
        'echo "$JAX_PROCESS_ID/$JAX_NUM_PROCESSES on $CUDA_VISIBLE_DEVICES: $*"\n'
        'exit "$((JAX_PROCESS_ID == 1 ? 7 : 0))"\n'
    )
    (tmp_path / "python").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "DEVICES_PER_PROCESS": "2",
    }
    command = [str(tmp_path / "launch" / "multiprocess.sh"), "3", "--workdir=w"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 7
    assert sorted(result.stdout.splitlines()) == [
        f"{i}/3 on {2 * i},{2 * i + 1}: -m affect_jax.main --workdir=w" for i in range(3)
    ]
