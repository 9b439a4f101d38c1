"""The workflow around the experiments: what is run again, and what is asked of and understood from SLURM."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
from conftest import ROOT
from filelock import FileLock

from prlib.command_line import main
from prlib.estimate import describe_plan, megabytes_held, plan
from prlib.profiles import COMMITTED, Parameters, repository_results
from prlib.scale import makespan, seconds_by_job
from prlib.snapshot import Snapshot
from prlib.store import Store

SLURM = ROOT / "workflow" / "slurm"
SNAKEMAKE = [Path(sys.executable).parent / "snakemake", "--snakefile", ROOT / "workflow" / "Snakefile", "--cores", "1"]
KUBERNETES = ROOT / "workflow" / "kubernetes"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to work in, with a place for commands."""
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path


def command(place, name, text):
    (place / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
    (place / "bin" / name).chmod(0o755)


def planned(place, target):
    """Which rules Snakemake would run for a target there."""
    options = ["--nolock", "--dry-run", "--rerun-triggers", "mtime", "--", target]
    environment = os.environ | {"PYTHONPATH": ""}
    done = subprocess.run([*SNAKEMAKE, *options], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^(data|measure|chapter)\s+\d+$", done.stdout, re.MULTILINE))


STUB = """
import sys, pathlib
if sys.argv[1] == "list":
    print(pathlib.Path("plan.json").read_text("utf-8"))
else:
    (pathlib.Path("the store") / "records" / sys.argv[2]).touch()
"""


def tell(place, to_do, store="the store"):
    """Have the stub say that of the trainings a, b and c, with a record each, these are to do."""
    jobs = [{"training": name, "dataset": "mnist", "source": "sample", "seconds": 1, "megabytes": 1} for name in to_do]
    records = [str(place / store / "records" / name) for name in "abc" if name not in to_do]
    plan = {"store": str(place / store), "records": records if to_do else [], "to do": jobs}
    (place / "plan.json").write_text(json.dumps(plan))


@pytest.mark.slow
def test_what_has_gone_or_lies_elsewhere_is_measured_and_shown_again(place):
    """A folder with a space, and a store elsewhere; the site renders whatever it is told."""
    (place / "a b").mkdir()
    os.chdir(place / "a b")
    place = place / "a b"
    for name in ("prlib/__main__.py", "workflow/render", "the store/records/b"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(STUB)
    (place / "workflow/render").write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$BIN" >> rendered\n')
    (place / "workflow/render").chmod(0o755)
    (place / "book").mkdir()
    tell(place, ["a", "c"])
    run = [*SNAKEMAKE, "--nolock", "--rerun-triggers", "mtime", "--quiet", "all", "--", "site"]
    subprocess.run(run, env=os.environ | {"PYTHONPATH": ""}, check=True)
    assert sorted(path.name for path in (place / "the store/records").iterdir()) == ["a", "b", "c"]
    told = (place / "rendered").read_text().splitlines()
    assert told[:3] == ["_build/sample/book", f"{place}/the store/records", "."] and Path(told[3]).is_dir()
    for name in ("book/one.ipynb", "_build/sample/book/one.ipynb"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).touch()
    tell(place, [])
    assert planned(place, "site") == set()
    (place / "the store/records/a").unlink()
    tell(place, ["a"])
    assert planned(place, "site") == {"measure", "chapter"}
    tell(place, [], "another store")
    assert planned(place, "site") == {"chapter"}


def test_seeds_that_are_none_are_refused_before_anything_runs(place):
    done = subprocess.run([*SNAKEMAKE, "--config", "seeds='0,1'", "--", "site"], capture_output=True, text=True)
    assert done.returncode and "SEEDS must be integers with spaces between them; got '0,1'" in done.stdout + done.stderr
    assert not (place / "_build").exists()


def test_other_seeds_reach_the_plan_the_jobs_and_the_chapters(place):
    for name in ("prlib/__main__.py", "book/one.ipynb", "the store/records/b", "the store/records/c"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("import sys; open('told', 'w').write(str(sys.argv[1:]))\n" + STUB)
    tell(place, ["a"])
    run = [*SNAKEMAKE, "--nolock", "--dry-run", "--printshellcmds", "--config", "seeds='0 3'", "--", "site"]
    done = subprocess.run(run, env=os.environ | {"PYTHONPATH": ""}, check=True, capture_output=True, text=True)
    assert "'--profile', 'sample', '--seeds', '0', '3'" in (place / "told").read_text()
    assert "prlib run a --profile sample --seeds 0 3 " in done.stdout
    assert "-y 'seeds: [0, 3]'" in done.stdout


def test_a_second_run_of_the_workflow_waits_for_the_first(place):
    (place / "prlib").mkdir()
    (place / "prlib/__main__.py").write_text(STUB)
    tell(place, [])
    (place / "_build/sample").mkdir(parents=True)
    command = [*SNAKEMAKE, "--nolock", "--dry-run", "--", "records"]
    with FileLock(place / "_build/sample/.lock"):
        second = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ""}, stderr=subprocess.PIPE, text=True)
        assert second.stderr.readline() == "waiting for another process, which works in _build/sample\n"
        assert second.poll() is None
    second.communicate()
    assert second.returncode == 0


@pytest.mark.parametrize(
    "shown", ["results/published/records/a.json", "results/tenth/records/b.json", "benchmarks/c.json"]
)
@pytest.mark.slow
def test_what_a_chapter_shows_makes_it_run_again(place, shown):
    files = ["book/one.ipynb", "results/published/records/a.json", "results/tenth/records/b.json"]
    for name in (*files, "benchmarks/c.json", "_build/sample/book/one.ipynb", "prlib/__main__.py"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(STUB)  # what the last of them does
        os.utime(place / name, (1e9, 1e9))
    tell(place, [])
    (place / "_build/sample/store").write_text(str(place / "the store"))
    os.utime(place / "_build/sample/store", (1e9, 1e9))
    assert planned(place, "_build/sample/book/one.ipynb") == set()
    (place / shown).touch()
    assert planned(place, "_build/sample/book/one.ipynb") == {"chapter"}


@pytest.mark.parametrize(
    ("listed", "left", "understood"),
    [
        ("7 RUNNING:None:cpu", None, "running"),
        ("7 PENDING:Resources:cpu", "1", "running"),  # queued again after its node was lost
        ("7 PENDING:PartitionTimeLimit:brief,long", None, "running"),  # one of them may do
        ("7 PENDING:JobHeldUser:cpu", None, "running"),
        ("7 COMPLETING:None:cpu", None, "running"),
        ("7 COMPLETED:None:cpu", None, "success"),
        ("7 FAILED:NonZeroExitCode:cpu", "1", "failed"),
        ("7 CANCELLED:None:cpu", None, "failed"),
        ("7 TIMEOUT:TimeLimit:cpu", None, "failed"),
        ("77 COMPLETED:None", None, "failed"),  # SLURM has forgotten it, and it came to no end
        ("77 FAILED:NonZeroExitCode", "0", "success"),
        ("77 FAILED:NonZeroExitCode", "143", "failed"),
        (None, None, "running"),  # SLURM does not answer
    ],
)
def test_what_slurm_says_of_a_job_is_understood(place, listed, left, understood):
    command(place, "squeue", f"echo '{listed}'" if listed else "exit 1")
    (place / "_build/slurm").mkdir(parents=True)
    (place / "_build/slurm/name-7.log").touch()
    if left:
        (place / "_build/slurm/7.exit").write_text(left + "\n")
    asked = subprocess.run([SLURM / "status", "7"], capture_output=True, text=True, check=True)
    assert asked.stdout == understood + "\n"
    assert ("_build/slurm/name-7.log" in asked.stderr) == (understood == "failed")


def test_a_refused_job_is_an_error_that_says_what_may_help(place):
    command(place, "squeue", "")
    command(place, "sbatch", "echo 'Requested time limit is invalid' >&2; exit 1")
    (place / "script").touch()
    submit = [SLURM / "submit", "_build/paper/measured/mnist-pr", "5", "100", "0", "script"]
    done = subprocess.run(submit, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and "mnist-pr" in done.stderr and "set HOURS" in done.stderr


@pytest.mark.parametrize(
    "reason",
    ["PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit", "launch failed requeued held", "QOSMaxMemoryPerJob"],
)
def test_a_job_that_would_wait_for_ever_is_cancelled_and_named(place, reason):
    command(place, "squeue", f"echo '7 PENDING:{reason}:cpu'")
    command(place, "scancel", 'echo "$@" > cancelled')
    (place / "_build/slurm").mkdir(parents=True)
    asked = subprocess.run([SLURM / "status", "7"], capture_output=True, text=True, check=True)
    assert asked.stdout == "failed\n" and (place / "cancelled").read_text() == "7\n"
    assert "job 7 " in asked.stderr and f": {reason};" in asked.stderr and "set HOURS" in asked.stderr
    command(place, "scancel", "exit 1")
    asked = subprocess.run([SLURM / "status", "7"], capture_output=True, text=True, check=True)
    assert asked.stdout == "running\n"  # to be asked again


def test_one_list_answers_many_questions(place):
    command(place, "squeue", "echo >> asked; for id in 1 2 3; do echo $id RUNNING:None; done")
    (place / "_build/slurm").mkdir(parents=True)
    for job in ("1", "2", "3"):
        subprocess.run([SLURM / "status", job], check=True)
    assert (place / "asked").read_text().count("\n") == 1


def test_nothing_is_submitted_while_slurm_does_not_say_what_is_queued(place):
    command(place, "squeue", "exit 1")
    command(place, "sbatch", "touch submitted; echo 12")
    (place / "script").touch()
    given = ["_build/paper/measured/mnist-pr", "5", "100", "0", "script"]
    assert subprocess.run([SLURM / "submit", *given]).returncode == 1 and not (place / "submitted").exists()


@pytest.mark.parametrize(
    ("gpus", "kind", "asked"),
    [("0", "", "none"), ("0", "gpu:a100:1", "none"), ("1", "", "gpu:1"), ("1", "gpu:a100:1", "gpu:a100:1")],
)
def test_a_job_is_submitted_under_its_name_once(place, gpus, kind, asked, monkeypatch):
    monkeypatch.setenv("SBATCH_GRES", kind)
    command(place, "squeue", "cat queue")
    command(place, "sbatch", 'cat > script; printf "%s\\n" "$@" "${SBATCH_GRES-none}" > options; echo "12;cluster"')
    (place / "queue").write_text("3 /elsewhere/_build/paper/measured/mnist-pr\n")
    (place / "job").write_text("#!/bin/sh\nexit 3\n")
    submit = [SLURM / "submit", "_build/paper/measured/mnist-pr", "90", "2000", gpus, "job"]
    assert subprocess.run(submit, capture_output=True, text=True, check=True).stdout == "12\n"
    options = (place / "options").read_text().splitlines()
    assert {"--job-name=mnist-pr", "--time=90", "--mem=2000", "--requeue"} <= set(options)
    assert options[-1] == asked and not any("--gres" in option for option in options)
    environment = os.environ | {"SLURM_JOB_ID": "12"}
    assert subprocess.run(["sh", "script"], env=environment).returncode == 3
    assert (place / "_build/slurm/12.exit").read_text() == "3\n"
    (place / "options").unlink()
    (place / "queue").write_text(f"8 {place}/_build/paper/measured/mnist-pr\n")
    assert subprocess.run(submit, capture_output=True, text=True, check=True).stdout == "8\n"
    assert not (place / "options").exists()


KUBECTL = """
case $1 in
  get) [ -e answer ] && cat answer ;;
  create) cat > created; printf mnist-pr-abcde ;;
esac
"""


@pytest.mark.parametrize("gpus", ["0", "1"])
@pytest.mark.parametrize("version", ["1.25", "1.30", "1.37"])
def test_a_job_for_kubernetes_is_valid_and_has_no_more_rights_than_it_needs(place, monkeypatch, version, gpus):
    command(place, "kubectl", KUBECTL)
    monkeypatch.setenv("IMAGE", "registry.example/prlib:1")
    monkeypatch.setenv("CLAIM", "home/mine/book")
    (place / "answer").write_text('{"items": []}')
    (place / "job").write_text("#!/bin/sh\necho said\nexit 3\n")
    submit = [KUBERNETES / "submit", "_build/paper/measured/fashion-mnist-noise-0.5", "90", "2000", gpus, "job"]
    assert subprocess.run(submit, capture_output=True, text=True, check=True).stdout == "mnist-pr-abcde\n"
    job = json.loads((place / "created").read_text())
    assert kubernetes_validate.validate(job, version, strict=True) == version
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*-", job["metadata"]["generateName"])
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"memory": "2000M"} | ({"nvidia.com/gpu": "1"} if gpus == "1" else {})
    assert pod["activeDeadlineSeconds"] == 5400 and pod["securityContext"]["runAsNonRoot"]
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"] and rights["capabilities"] == {"drop": ["ALL"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["folder"] == {"name": "folder", "mountPath": str(place), "subPath": "mine/book"}
    assert {volume["name"] for volume in pod["volumes"]} == mounts.keys()
    assert subprocess.run(container["command"], env=os.environ | {"JOB": "it"}).returncode == 3
    assert [(place / "_build/kubernetes" / name).read_text() for name in ("it.log", "it.exit")] == ["said\n", "3\n"]


@pytest.mark.parametrize(
    ("status", "taken"),
    [
        ({}, True),
        ({"conditions": [{"type": "Suspended", "status": "True"}]}, True),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, False),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, False),
        (None, False),  # it is being removed
    ],
)
def test_a_job_for_kubernetes_that_waits_or_runs_is_not_created_again(place, monkeypatch, status, taken):
    command(place, "kubectl", KUBECTL)
    monkeypatch.setenv("IMAGE", "prlib:1")
    monkeypatch.setenv("CLAIM", "book")
    metadata = {"name": "there"} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if status is None else {})
    (place / "answer").write_text(json.dumps({"items": [{"metadata": metadata, "status": status or {}}]}))
    (place / "job").write_text("#!/bin/sh\n")
    submit = [KUBERNETES / "submit", "_build/paper/measured/mnist-pr", "90", "2000", "0", "job"]
    printed = subprocess.run(submit, capture_output=True, text=True, check=True).stdout
    assert printed == ("there\n" if taken else "mnist-pr-abcde\n")
    assert (place / "created").exists() != taken


@pytest.mark.parametrize(
    ("listed", "left", "understood"),
    [
        ("a .", None, "running"),
        ("a Suspended .", None, "running"),
        ("a SuccessCriteriaMet Complete .", None, "success"),
        ("a FailureTarget Failed .", "1", "failed"),
        ("ab Complete .", None, "failed"),  # it has been removed, and came to no end
        ("ab Failed .", "0", "success"),
        ("ab Complete .", "137", "failed"),
        (None, None, "running"),  # Kubernetes does not answer
    ],
)
def test_what_kubernetes_says_of_a_job_is_understood(place, listed, left, understood):
    command(place, "kubectl", f"echo '{listed}'" if listed else "exit 1")
    (place / "_build/kubernetes").mkdir(parents=True)
    (place / "_build/kubernetes/a.log").touch()
    if left:
        (place / "_build/kubernetes/a.exit").write_text(left + "\n")
    asked = subprocess.run([KUBERNETES / "status", "a"], capture_output=True, text=True, check=True)
    assert asked.stdout == understood + "\n"
    assert ("_build/kubernetes/a.log" in asked.stderr) == (understood == "failed")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["EXECUTOR=pbs"], "pbs"),
        (["EXECUTOR=slurm"], "sbatch"),
        (["EXECUTOR=kubernetes"], "kubectl"),
        (["EXECUTOR=kubernetes", "kubectl"], 'IMAGE="" CLAIM=""'),
        (["EXECUTOR=kubernetes", "IMAGE=prlib", "CLAIM=book", "kubectl", "id"], "root"),
        *(
            (["EXECUTOR=kubernetes", f"IMAGE={image}", f"CLAIM={claim}", "kubectl"], f'CLAIM="{claim}"')
            for image, claim in [("", "two words"), ("two words", "")]
            + [("prlib", claim) for claim in ("/book", "home//book", "home/../book", "home/my book", "home/..")]
        ),
        (["EXECUTOR=kubernetes", "IMAGE=prlib", "CLAIM=book/a/", "PRLIB_DATA=/data", "kubectl"], 'PRLIB_DATA="/data"'),
        (["EXECUTOR=kubernetes", "IMAGE=prlib", "CLAIM=a", "PRLIB_RESULTS=..", "kubectl"], 'PRLIB_RESULTS=".."'),
    ],
)
def test_make_refuses_what_cannot_run_in_one_sentence(settings, named, tmp_path):
    for present in [setting for setting in settings if "=" not in setting]:  # commands; all users are root
        (tmp_path / present).write_text("#!/bin/sh\necho 0\n")
        (tmp_path / present).chmod(0o755)
    settings = [setting for setting in settings if "=" in setting]
    for tool in ("sh", "env"):
        (tmp_path / tool).symlink_to(Path("/usr/bin") / tool)
    make = ["/usr/bin/make", "--dry-run", "reproduce", *settings]
    done = subprocess.run(make, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode and named in done.stderr and done.stderr.count("\n") == 1 and not done.stdout


def test_the_plan_for_programs_says_what_the_one_for_readers_does(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    assert main(["list", "--names"]) == 0
    named = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert main(["list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["store"] == str(tmp_path / "sample") and told["records"] == []
    assert told["ready"] == [] == [name for state, name, _ in named if state == "ready"]
    jobs = [(name, job["training"]) for job in told["to do"] for name in job["experiments"]]
    assert sorted(jobs) == sorted((name, training) for _, name, training in named)
    assert all(job["seconds"] > 1 and job["source"] == "sample" for job in told["to do"])


def test_nothing_is_to_do_where_all_is_committed():
    parameters = Parameters("published", datasets=("cifar10",))
    committed = [e for e in parameters.experiments() if parameters.store.is_current(e)]
    told = plan(parameters, committed)
    assert told["ready"] == [e.name for e in committed] and told["to do"] == [] and len(committed) > 20
    assert [Path(path).stem for path in told["records"]] == told["ready"]
    assert told["store"] == str(repository_results() / "published")


@pytest.mark.parametrize("profile", COMMITTED)
def test_no_record_held_more_memory_than_its_job_would_ask_for(profile):
    records, _ = Store(repository_results() / profile).records()
    held = [(r.provenance["peak_megabytes"], r) for r in records if "peak_megabytes" in r.provenance]
    assert held and all(1.2 * peak < megabytes_held(r.experiment.training) for peak, r in held)


def test_a_profile_costs_what_its_records_took_where_it_repeats_them():
    profile = Parameters("published", datasets=("mnist",), seeds=(0,)).experiments()
    records = [r for r in Store(repository_results() / "published").records()[0] if r.experiment in profile]
    records = [r for r in records if r.experiment.training.defence.name == "quantised"]
    records = [r for r in records if r.experiment.split == "test"]  # judging 60,000 training images is no small part
    records = [r for r in records if not any(a.epsilon for a in r.experiment.attacks)]  # one of several ε counts
    attacked = sum(r.provenance["seconds"]["total"] for r in records if r.experiment.attacks)
    training = records[0].provenance["seconds"]["training"]
    (computed,) = seconds_by_job([r.experiment for r in records], records).values()
    clean = [r.experiment for r in records if not r.experiment.attacks]
    assert computed - sum(seconds_by_job(clean, records).values()) == pytest.approx(attacked)
    assert training < computed - attacked < 1.02 * training  # judging clean images is a small part
    with pytest.raises(ValueError, match="cifar10 with none"):
        seconds_by_job(Parameters("published", datasets=("cifar10",)).experiments(), records)


def test_makespans_are_those_of_a_schedule_drawn_by_hand():
    jobs = [3, 1, 1, 2, 4]  # on two cores 3 + 4 | 1 + 1 + 2, on three 3 | 1 + 2 | 1 + 4
    assert [makespan(jobs, workers) for workers in (1, 2, 3, 5, 99)] == [11, 7, 5, 4, 4]
    with pytest.raises(ValueError, match="got 0"):
        makespan(jobs, 0)


def test_a_plan_reads_each_network_once(tmp_path, monkeypatch):
    """Each has megabytes of which a digest is made; several experiments need the same."""
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    parameters, paths = Parameters("sample", ["mnist"]), []
    read = Snapshot.read
    monkeypatch.setattr(Snapshot, "read", lambda path: paths.append(path) or read(path))
    experiments = parameters.experiments()
    assert "ready" not in describe_plan(parameters, experiments)
    embedded = [experiment.networks for experiment in experiments if experiment.embedded]
    needed = {training for networks in embedded for training in networks}
    assert len(paths) == len(set(paths)) == len(needed) < sum(map(len, embedded))
