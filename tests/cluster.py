"""From trainings to the site through a real SLURM cluster of one node, and the records beside a local run's.

``make cluster-test`` runs it. Of four trainings one job is cancelled, one killed on its node, one queued again as if
its node were lost, and the submitting side is killed and started again; then the same command goes on to the chapters
and the site. Everything lies in _build/cluster. Debian's slurm-wlm and munge are installed if they are missing.
"""

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from safetensors.torch import load_file

from prlib.experiment import Training
from prlib.profiles import Parameters, default_defence, default_recipe

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "_build" / "cluster"
DAEMONS = ("munged", "slurmctld", "slurmd")
PATIENCE = 3600.0
SETTINGS = {"EXECUTOR": "slurm", "JOBS": 4, "ACCOUNT": "reader", "PARTITION": "book"}
DATASET = "fashion-mnist"
TRAININGS = sorted({e.training.name for e in Parameters(datasets=(DATASET,), epochs=(50,)).experiments()})
# The fifth: undisturbed on the whole way, and refused with DEVICE=cuda.
FIFTH = Training(DATASET, "sample", 640, default_defence("noise-0.5", DATASET), default_recipe(DATASET), 0).name
CONF = """\
ClusterName=one
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
KillWait=5
GresTypes=gpu
NodeName=localhost CPUs={cores} RealMemory=65536 Gres=gpu:1 State=UNKNOWN
PartitionName=other Nodes=localhost Default=YES
PartitionName=book Nodes=localhost MaxTime=24:00:00
PartitionName=brief Nodes=localhost MaxTime=00:05:00
"""


def say(text: str) -> None:
    print(f"{time.monotonic() - STARTED:5.0f} s  {text}", flush=True)


def install() -> None:
    """Install what is missing, or say so in a sentence."""
    os.environ["PATH"] += ":/usr/sbin"
    missing = [command for command in (*DAEMONS, "sbatch") if not shutil.which(command)]
    if not missing:
        return
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or subprocess.run([*root, "true"], capture_output=True).returncode:
        sys.exit(f"{', '.join(missing)} must be installed (Debian's slurm-wlm and munge), or apt-get and root be there")
    say(f"installing slurm-wlm and munge, for {', '.join(missing)}")
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "slurm-wlm", "munge"]):
        environment = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
        subprocess.run([*environment, "apt-get", "-qq", *command], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def cluster() -> Iterator[None]:
    """A cluster of this machine alone, with a GPU that is none, of processes that end with it."""
    with ExitStack() as sockets:
        free = [sockets.enter_context(socket.socket()) for _ in range(2)]
        for one in free:
            one.bind(("localhost", 0))
        ports = [one.getsockname()[1] for one in free]
    for name in ("state", "spool"):
        (FOLDER / name).mkdir()
    os.environ["SLURM_CONF"] = str(FOLDER / "slurm.conf")
    conf = CONF.format(user=getpass.getuser(), folder=FOLDER, ports=ports, cores=os.cpu_count())
    (FOLDER / "slurm.conf").write_text(conf)
    (FOLDER / "gres.conf").write_text("NodeName=localhost Name=gpu Count=1 File=/dev/null\n")
    (FOLDER / "munge.key").write_bytes(os.urandom(128))
    (FOLDER / "munge.key").chmod(0o400)
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    commands = [
        ["munged", "--foreground", "--force", *(f"--{name}={FOLDER}/munge.{end}" for name, end in files.items())],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "localhost"],
    ]
    daemons = []
    try:
        for command in commands:
            with (FOLDER / f"{command[0]}.out").open("w") as log:
                daemons.append(subprocess.Popen(command, stdout=log, stderr=log))
            wait_for("munged's socket", lambda: (FOLDER / "munge.socket").exists(), 60)
        wait_for("the node", lambda: "idle" in slurm("sinfo", "--noheader", "--format=%T"), 60)
        yield
    finally:
        slurm("scancel", f"--user={getpass.getuser()}")
        with suppress(TimeoutError):
            wait_for("the end of the jobs", lambda: not slurm("squeue", "--noheader"), 60)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def wait_for(what: str, happens: Callable[[], object], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


def copy(name: str) -> Path:
    """A copy of what runs, with a store and a profile of its own."""
    folder = FOLDER / name
    for part in ("prlib", "workflow", "book"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and not path.is_symlink():
            shutil.copy2(path, folder)
    shutil.copy2(ROOT / "tests" / "cluster.yaml", folder / "prlib" / "profiles" / "sample.yaml")
    (folder / "results").mkdir()
    for read in (".venv", "benchmarks", "results/published", "results/tenth", "results/reference"):
        (folder / read).symlink_to(ROOT / read)
    return folder


def goal(*trainings: str) -> str:
    return " ".join(f"_build/sample/measured/{name}" for name in trainings)


def start(folder: Path, **variables: object) -> subprocess.Popen:
    """`make reproduce`, its output in a file."""
    settings = [f"{name}={value}" for name, value in variables.items()]
    with (folder / "output").open("a") as output:
        command = ["make", "--no-print-directory", "reproduce", *settings]
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)


def jobs() -> dict[str, tuple[str, str]]:
    """State and name of each job by its number."""
    listed = slurm("squeue", "--states=all", "--noheader", "--format=%A %T %j").splitlines()
    return {line.split()[0]: (line.split()[1], line.split()[2]) for line in listed}


def amid_training(folder: Path, run: subprocess.Popen, done: set[str]) -> tuple[str, str, Path]:
    """Wait for a job amid a training that nothing has been done to; its number, its name and its first snapshot."""
    found: list[tuple[str, str, Path]] = []

    def look() -> bool:
        assert run.poll() is None, (folder / "output").read_text()
        for number, (state, name) in jobs().items():
            weights = folder / "results/sample/weights" / name
            if state == "RUNNING" and name not in done and (weights / "epoch-0005.safetensors").exists():
                found.append((number, name, weights / "epoch-0001.safetensors"))
        return bool(found)

    wait_for("a job amid its training", look)
    done.add(found[0][1])
    return found[0]


def processes() -> dict[int, str]:
    """The command lines of what runs in this cluster's environment, this process apart."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (path / "environ").read_bytes().split(b"\0")
            if f"SLURM_CONF={FOLDER}/slurm.conf".encode() in environment and int(path.name) != os.getpid():
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def disturbed_run(folder: Path) -> None:
    """The four trainings on the cluster, each disturbed once."""
    settings = SETTINGS | {"GOAL": goal(*TRAININGS)}
    run = start(folder, **settings)
    done: set[str] = set()
    begun = {}
    number, name, first = amid_training(folder, run, done)
    begun[first] = first.stat().st_mtime_ns
    slurm("scancel", number)
    say(f"cancelled job {number}, {name}")
    number, name, first = amid_training(folder, run, done)
    begun[first] = first.stat().st_mtime_ns
    victims = [pid for pid, command in processes().items() if f" prlib run {name}" in command and "-m" in command]
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    say(f"killed {len(victims)} processes of job {number} on its node, {name}")
    number, name, first = amid_training(folder, run, done)
    begun[first] = first.stat().st_mtime_ns
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    alive = {job for job, (state, _) in jobs().items() if state in ("PENDING", "RUNNING")}
    assert number in alive, jobs()
    say(f"killed the submitting side; jobs {', '.join(sorted(alive))} go on; started it again")
    run = start(folder, **settings)
    number, name, first = amid_training(folder, run, done)
    begun[first] = first.stat().st_mtime_ns
    slurm("scontrol", "requeue", number)
    say(f"queued job {number} again, as if its node were lost, {name}")
    assert run.wait(PATIENCE) == 0, (folder / "output").read_text()
    logs = [path.stem.rpartition("-") for path in (folder / "_build/slurm").glob("*.log")]
    assert sorted({name for name, _, _ in logs}) == TRAININGS
    assert sorted(int(job) for _, _, job in logs) == [1, 2, 3, 4, 5, 6], logs  # two again, and none taken for another
    assert all(first.stat().st_mtime_ns == before for first, before in begun.items()), "trained from the start"
    say(f"all four have ended, in {len(logs)} jobs: the four, and two for what was cancelled and killed")


def whole_way(folder: Path) -> None:
    """What is left of the profile, the chapters and the site."""
    before = set((folder / "_build/slurm").glob("*.log"))
    assert start(folder, **SETTINGS).wait(PATIENCE) == 0, (folder / "output").read_text()
    logs = {path.stem.rpartition("-")[0] for path in set((folder / "_build/slurm").glob("*.log")) - before}
    chapters = {path.name for path in (folder / "book").glob("*.ipynb")}
    assert logs == chapters | {FIFTH}, logs
    records = {path.stem for path in (folder / "results/sample/records").glob("*.json")}
    pages = {path.stem for path in (folder / "_build/html/records").glob("*.html")}
    assert records and records <= pages and (folder / "_build/html/index.html").exists()
    say(f"the site shows all {len(records)} records; its {len(chapters)} chapters were jobs, too")


def failing_run(folder: Path) -> None:
    """A job that cannot work here, for it wants a GPU: what was asked of SLURM, and where its log is."""
    run = start(folder, **SETTINGS, GOAL=goal(FIFTH), DEVICE="cuda", HOURS=1, SEEDS=0)
    assert run.wait(PATIENCE) != 0
    (number, log), *_ = re.findall(r"SLURM job (\d+): FAILED; its log: (\S+)", (folder / "output").read_text())
    assert "device must be one of cpu on this machine; got 'cuda'" in (folder / log).read_text()
    asked = slurm("scontrol", "show", "job", number)
    for what in (f"JobName={FIFTH}", "Account=reader", "Partition=book", "NumCPUs=1 "):
        assert what in asked, (what, asked)
    assert re.search(r"TresPerNode=gres[:/]gpu:1", asked) and re.search(r"TimeLimit=00:[3-5]\d:00", asked), asked
    job, *_ = json.loads((folder / "_build/sample/plan.json").read_text())["to do"]
    assert f"MinMemoryNode={job['megabytes'] + 4000}M" in asked, asked  # and CUDA's libraries
    say(f"job {number} asked for a GPU, memory, time, account, partition; {Path(log).name} says why it failed")


def impatient_run(folder: Path) -> None:
    """A job that asks for more time than its partition gives, which SLURM would have wait for ever."""
    run = start(folder, **SETTINGS | {"PARTITION": "brief"}, GOAL=goal(FIFTH))
    assert run.wait(PATIENCE) != 0
    output = (folder / "output").read_text()
    assert "would have waited for ever: PartitionTimeLimit; if for its time, set HOURS" in output, output
    assert "PENDING" not in {state for state, _ in jobs().values()}, jobs()
    say("a job that its partition is too brief for was cancelled, with a sentence that says so")


def same_records(ours: Path, theirs: Path) -> int:
    """Compare two stores but for where and when they were measured; how many records there are."""
    here, there = ({p.name: p for p in sorted(f.glob("results/sample/records/*.json"))} for f in (ours, theirs))
    assert here.keys() == there.keys() and here
    for name in here:
        one, other = (json.loads(path.read_text()) for path in (here[name], there[name]))
        assert one.pop("provenance") and other.pop("provenance") and one == other, name
    networks = sorted(ours.glob("results/sample/weights/*/epoch-*.safetensors"))
    for path in networks:
        one, other = load_file(path), load_file(theirs / path.relative_to(ours))
        assert one.keys() == other.keys() and all(one[key].equal(other[key]) for key in one), path
    say(f"{len(here)} records and {len(networks)} networks are those of a local run, bit by bit")
    return len(here)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # by way of what takes the cluster down
    install()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        with cluster():
            say(f"a cluster of {slurm('sinfo', '--version')} and {slurm('munged', '--version').split()[0]} is up")
            there = copy("there")
            disturbed_run(there)
            whole_way(there)
            failing_run(copy("failing"))
            impatient_run(copy("impatient"))
        assert not (left := processes()), left
    finally:
        for pid in processes():
            os.kill(pid, signal.SIGKILL)
    say("the cluster is down; no process is left")
    here = copy("here")
    assert start(here, GOAL="records", CORES=os.cpu_count()).wait(PATIENCE) == 0, (here / "output").read_text()
    same_records(there, here)
    shutil.rmtree(FOLDER)
    say("passed")


STARTED = time.monotonic()
if __name__ == "__main__":
    main()
