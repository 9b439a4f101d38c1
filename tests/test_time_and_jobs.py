"""Runs that stop in time, run side by side, and store their networks in half precision."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import torch
from conftest import CHAPTERS, ROOT, brief
from safetensors.torch import load_file

from prlib import data
from prlib.command_line import main
from prlib.data import load
from prlib.deadline import OutOfTime, check_time, in_time, seconds_left, time_limit
from prlib.experiment import Defence, Experiment, Training
from prlib.files import is_locked, parse_tensors, save_tensors
from prlib.jobs import take
from prlib.judging import judge_batch
from prlib.profiles import PROFILES, Parameters, default_attack, default_defence, default_recipe
from prlib.run import Context, prepare, run, verify
from prlib.snapshot import Snapshot, load_model
from prlib.store import Store
from prlib.train import Recipe, train

TINY = ("--n-train", "130", "--n-test", "60", "--epochs", "1", "2", "--progress", "none")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def few():
    return load("mnist", "train", "sample").take(150, seed=0)


def tiny(attacks=(), cases=("A", "C"), draws=1, n=8):
    training = Training("mnist", "sample", 130, default_defence("pr", "mnist"), default_recipe("mnist"), 0)
    made = tuple(brief(default_attack(name, "mnist")) for name in attacks)
    tested_with, cases = (default_defence("pr", "mnist"),), cases if made else ()
    return Experiment(training, tested_with, (1, 3), n, made, cases, draws=draws)


def quiet(store):
    return Context(store, progress="none")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def trained(few, folder, epochs=(2, 4), **more):
    prepare = default_defence("pr", "mnist").preparation()
    return list(train(few, Recipe(), prepare, epochs, 0, folder, progress="none", **more))


# Time limits


def test_what_is_too_slow_is_not_begun(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("prlib.deadline.time", type("Clock", (), {"time": lambda: now[0]}))
    assert seconds_left() == float("inf")
    done = []
    with time_limit(110), pytest.raises(OutOfTime):
        for item in in_time([1, 4, 2, 9]):  # 1 + 4 seconds, then one as slow fits, then none
            done.append(item)
            now[0] += item
    assert done == [1, 4, 2] and now[0] == 107
    with time_limit(108):
        check_time(0.5)
        with pytest.raises(OutOfTime):
            check_time(1)


@pytest.mark.parametrize("epochs_in_time", [1, 2, 3])
def test_a_training_stops_before_an_epoch_that_would_be_late_and_goes_on(few, tmp_path, monkeypatch, epochs_in_time):
    expected = trained(few, tmp_path / "whole")
    looks = iter([float("inf")] * (epochs_in_time - 1) + [0.0])
    monkeypatch.setattr("prlib.train.seconds_left", lambda: next(looks))
    with pytest.raises(OutOfTime):
        trained(few, tmp_path / "stopped")
    monkeypatch.undo()
    assert load_file(tmp_path / "stopped" / "checkpoint.safetensors")["epoch"] == epochs_in_time
    assert (tmp_path / "stopped" / "epoch-0002.safetensors").exists() == (epochs_in_time >= 2)
    for (_, model), (_, other) in zip(expected, trained(few, tmp_path / "stopped"), strict=True):
        assert same(model.state_dict(), other.state_dict())


@pytest.mark.parametrize("steps_in_time", [1, 5])  # of 2 an epoch
def test_a_training_stops_within_an_epoch_that_is_late_already(few, tmp_path, monkeypatch, steps_in_time):
    expected = trained(few, tmp_path / "whole")

    looks = iter(range(99))

    def look(needed=0.0):
        if next(looks) >= steps_in_time:
            raise OutOfTime

    monkeypatch.setattr("prlib.train.check_time", look)
    with pytest.raises(OutOfTime):
        trained(few, tmp_path / "stopped")
    monkeypatch.undo()
    for (_, model), (_, other) in zip(expected, trained(few, tmp_path / "stopped"), strict=True):
        assert same(model.state_dict(), other.state_dict())


@pytest.fixture
def judged(monkeypatch):
    """How many images each batch had that was judged; there are two of 4 for each network."""
    monkeypatch.setattr("prlib.cases.BATCH_SIZE", 4)
    monkeypatch.setattr("prlib.halfway.KEPT_SECONDS", 0.0)
    sizes = []

    def judge_and_count(network, batch, *more):
        sizes.append(len(batch.labels))
        return judge_batch(network, batch, *more)

    monkeypatch.setattr("prlib.judging.judge_batch", judge_and_count)
    return sizes


def stopped_before(monkeypatch, number, experiment, store):
    """Run the experiment, out of time before the batch of this number, counted over its networks."""
    looks = iter(range(99))

    def look(needed=0.0):
        if next(looks) == number:
            raise OutOfTime

    with monkeypatch.context() as patch, pytest.raises(OutOfTime):
        patch.setattr("prlib.deadline.check_time", look)
        run(experiment, quiet(store))
    assert not store.record_path(experiment).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked", [(["fgsm"],), (["eot-pgd", "transfer"], ("adaptive",), 3), ([], (), 3)], ids=["paper", "adaptive", "clean"]
)
def test_an_experiment_goes_on_after_the_batches_that_were_judged(tmp_path, monkeypatch, judged, asked):
    experiment = tiny(*asked)
    expected = run(experiment, quiet(Store(tmp_path / "whole")))
    store = Store(tmp_path / "stopped")
    stopped_before(monkeypatch, 3, experiment, store)  # the second batch at the last epoch
    assert len(list(tmp_path.rglob("judged/*/*"))) == 3
    judged.clear()
    again = run(experiment, quiet(store))
    assert judged == [4] and again.cells == expected.cells
    assert not list(tmp_path.rglob("judged"))


@pytest.mark.slow
def test_batches_of_another_network_other_images_or_older_code_are_judged_again(tmp_path, monkeypatch, judged):
    experiment, store = tiny(["fgsm"]), Store(tmp_path)
    stopped_before(monkeypatch, 3, experiment, store)
    first = store.snapshots(experiment.training, (1,))[1]
    weights = {name: 1.5 * value for name, value in load_file(first).items()}
    save_tensors(weights, first, Snapshot.read(first).metadata)
    judged.clear()
    stopped_before(monkeypatch, 3, experiment, store)
    assert judged == [4, 4]  # of the first network; the other's first batch is known
    others = {"RESULTS": 99, "code_digest": lambda: "of older code", "device_name": lambda device: "another"}
    for name, other in others.items():
        with monkeypatch.context() as patch:
            patch.setattr(f"prlib.run.{name}", other)
            stopped_before(monkeypatch, 3, experiment, store)
    assert judged == [4] * (2 + 3 * 3)
    judged.clear()
    assert run(experiment, quiet(store), anew=True).cells and judged == [4] * 4


@pytest.mark.slow
def test_a_damaged_batch_is_named_and_judged_again_and_a_known_one_counts_its_seconds(
    tmp_path, monkeypatch, judged, capsys
):
    experiment, store = tiny(["fgsm"]), Store(tmp_path)
    stopped_before(monkeypatch, 1, experiment, store)
    (path,) = tmp_path.rglob("judged/*/*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    stopped_before(monkeypatch, 1, experiment, store)
    assert f"{path.name} is not what was found of a batch" in (said := capsys.readouterr().err)
    assert "that batch is judged again" in said and judged == [4, 4]
    tensors, meta = parse_tensors(path.read_bytes())
    save_tensors(tensors, path, meta | {"seconds": "1000.0"})
    assert 1000 <= run(experiment, quiet(store)).provenance["seconds"]["total"] < 1100


def test_the_command_line_says_that_time_was_up_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    command = ["run", "mnist-sample130-none-s0-e2-clean", *TINY]
    assert main([*command, "--minutes", "1e-9"]) == 3
    said = capsys.readouterr().err
    assert "stopped by --minutes 1e-09 with 0 of 1 experiments measured; the same command goes on" in said
    assert said.count("\n") == 1 and not list(tmp_path.rglob("*.json"))
    assert main([*command, "--minutes", "60"]) == 0
    assert len(list(tmp_path.rglob("*.json"))) == 1


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--minutes", "0"), "got 0"),
        (("--minutes", "nan"), "nan"),
        (("--jobs", "0"), "got 0"),
        (("--minutes", "5", "--recompute"), "does not go with --recompute"),
    ],
)
def test_impossible_limits_are_refused(option, named, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    assert main(["run", *TINY, *option]) == 2
    assert option[0] in (said := capsys.readouterr().err) and named in said and not list(tmp_path.iterdir())


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("option", [[], ["--recompute"]])
def test_all_is_checked_before_anything_runs(tmp_path, monkeypatch, capsys, jobs, option):
    """As 54,000 training images are too many for CIFAR-10, and not for MNIST, which comes before it."""
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))

    def load(name, *where):
        if name == "cifar10":
            raise ValueError("n must be from 1 to 50000; got 54000")
        return data.load(name, *where)

    monkeypatch.setattr("prlib.chosen.load", load)
    monkeypatch.setattr("prlib.run.train", None)  # whoever trains fails
    monkeypatch.setattr("prlib.command_line.side_by_side", None)
    names = [f"{dataset}-sample130-none-s0-e2-clean" for dataset in ("mnist", "cifar10")]
    sizes = ["--n-train", "130", "--n-test", "20", "--epochs", "2"]
    assert main(["run", *names, *sizes, "--jobs", jobs, *option]) == 2
    assert capsys.readouterr().err == "prlib: n must be from 1 to 50000; got 54000\n"
    assert not list(tmp_path.rglob("*.safetensors"))


# Side by side


@pytest.mark.slow
def test_trainings_side_by_side_measure_what_one_after_another_does(tmp_path, monkeypatch, capfd):
    names = [
        f"mnist-sample130-{name}"
        for name in ("none-s0-e2-clean", "pr-s0-e2-fgsm-bim", "pr-s0-e2-clean", "noise-s0-e2-clean")
    ]
    found = {}
    for jobs in ("1", "2"):
        monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path / jobs))
        assert main(["run", *names, *TINY, "--jobs", jobs, "--n-test", "20"]) == 0
        records = sorted((tmp_path / jobs / "custom" / "records").glob("*.json"))
        found[jobs] = {path.name: json.loads(path.read_text())["cells"] for path in records}
    assert found["1"] == found["2"] and len(found["1"]) == len(names)
    said = capfd.readouterr().out
    trainings = {path.name for path in (tmp_path / "2" / "custom" / "weights").iterdir()}
    assert len(trainings) == 3 and all(f"\n{name}: [1/" in said for name in trainings)


@pytest.mark.slow
def test_side_by_side_without_time_begins_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    command = ["run", "mnist-sample130-none-s0-e2-clean", "mnist-sample130-pr-s0-e2-clean", *TINY, "--jobs", "2"]
    assert main([*command, "--minutes", "1e-9"]) == 3
    assert "0 of 2 experiments" in capfd.readouterr().err and not list(tmp_path.rglob("*.safetensors"))


WORKERS = """
import json, os, sys, time
from pathlib import Path
from prlib.jobs import side_by_side

def work(folder, status):
    begun = time.time()
    print("half a line", end="")
    print(", and the rest", flush=True)
    time.sleep(0.3)
    Path(folder, str(os.getpid())).write_text(f"{begun} {time.time()}")
    if status is None:
        raise RuntimeError("broken")
    return status

if __name__ == "__main__":
    tasks = {"busy": 0, "one": 0, "two": 2, "three": None}
    arguments = {name: (sys.argv[1], status) for name, status in tasks.items()}
    print(json.dumps(side_by_side(work, arguments, 1, lambda name: name == "busy")))
"""


def test_a_task_that_fails_stops_no_other_and_at_most_so_many_run_at_a_time(tmp_path):
    (tmp_path / "workers.py").write_text(WORKERS)
    (noted := tmp_path / "noted").mkdir()
    command = [sys.executable, tmp_path / "workers.py", noted]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    *lines, statuses = done.stdout.splitlines()
    assert json.loads(statuses) == {"busy": 0, "one": 0, "two": 2, "three": 1}
    assert lines == [f"{name}: half a line, and the rest" for name in ("one", "two", "three", "busy")]
    assert "three: RuntimeError: broken" in done.stderr
    times = sorted(tuple(map(float, path.read_text().split())) for path in noted.iterdir())
    assert len(times) == 4 and all(end <= begin for (_, end), (begin, _) in pairwise(times))


SLEEPERS = """
import os, signal, sys, time
from pathlib import Path
from prlib.jobs import side_by_side

def sleep(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)
    return 0

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
    tasks = {name: (sys.argv[1],) for name in ("one", "two", "three")}
    side_by_side(sleep, tasks, 2, lambda name: False)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_all(tmp_path, sent):
    (tmp_path / "sleepers.py").write_text(SLEEPERS)
    (pids := tmp_path / "pids").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, tmp_path / "sleepers.py", pids], env=environment, stderr=subprocess.PIPE
    )
    while len(list(pids.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(sent)
    _, said = process.communicate()
    assert process.returncode not in (0, None), said
    for path in pids.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)
    assert len(list(pids.iterdir())) == 2  # the third was not begun


HOLDER = """
import sys
from pathlib import Path
from prlib.files import locked

with locked(Path(sys.argv[1]), "works"):
    print("inside", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def taken(tmp_path, monkeypatch):
    """Three experiments' names; another process works on the first one's training until its standard input ends."""
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    store = Parameters("sample", n_train=130).store
    with store.lock(Training("mnist", "sample", 130, Defence("none"), default_recipe("mnist"), 0)) as folder:
        pass
    holder = [sys.executable, "-c", HOLDER, folder / ".lock"]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holding:
        assert holding.stdout.readline() == b"inside\n"
        yield [f"mnist-sample130-{name}-s0-e2-clean" for name in ("none", "pr", "noise")], holding


@pytest.mark.slow
def test_a_training_that_another_process_works_on_comes_last(tmp_path, taken):
    names, holding = taken
    running = subprocess.Popen([sys.executable, "-m", "prlib", "run", *names, *TINY, "--n-test", "20"], cwd=ROOT)
    try:
        end = time.monotonic() + 300
        while len(found := sorted(tmp_path.rglob("*-clean-*.json"))) < 2:
            assert running.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        assert [path.name.split("-")[2] for path in found] == ["noise", "pr"]
        holding.stdin.close()
        assert running.wait() == 0 and len(list(tmp_path.rglob("*-clean-*.json"))) == 3
    finally:
        running.kill()


def test_of_two_trainings_anew_the_one_that_is_free_comes_first(tmp_path, taken, monkeypatch):
    names, holding = taken
    begun = []

    def networks(training, epochs, split, context, folder):
        begun.append(training.defence.name)
        holding.stdin.close()
        holding.wait()
        folder.mkdir()
        return []

    monkeypatch.setattr("prlib.run._networks", networks)
    parameters = Parameters("sample", ["mnist"], n_train=130, n_test=20, epochs=[1, 2])
    wanted = [e for e in parameters.experiments() if e.name.startswith(tuple(names))]
    prepare(wanted, quiet(parameters.store), anew=True)
    assert begun == ["pr", "none", "noise"]


def test_busy_is_who_works_on_any_of_an_experiments_networks(tmp_path, taken):
    store = Parameters("sample", n_train=130).store
    undefended = Training("mnist", "sample", 130, Defence("none"), default_recipe("mnist"), 0)
    assert store.is_busy(undefended) and not store.is_busy(undefended, tf32=True)
    free, knowing = tiny(), tiny(["transfer"], ("adaptive",))
    assert not quiet(store).is_busy(free) and quiet(store).is_busy(knowing)


def test_a_lock_that_cannot_be_opened_is_busy(tmp_path, monkeypatch):
    def acquire(self, **options):
        raise PermissionError("not allowed")

    monkeypatch.setattr("prlib.files.FileLock.acquire", acquire)
    assert not is_locked(tmp_path / "lock")
    (tmp_path / "lock").touch()
    assert is_locked(tmp_path / "lock")


def test_side_by_side_it_comes_last_too(monkeypatch, taken):
    names, _ = taken
    begun = []

    def side_by_side(work, tasks, jobs, busy):
        begun.extend(take(waiting, busy) for waiting in [list(tasks)] for _ in tasks)
        return {}

    monkeypatch.setattr("prlib.command_line.side_by_side", side_by_side)
    assert main(["run", *names, *TINY, "--n-test", "20", "--jobs", "2"]) == 0
    assert [name.split("-")[2] for name in begun] == ["pr", "noise", "none"]


# Half precision


@pytest.mark.slow
def test_networks_in_half_precision_are_the_same_networks_rounded(few, tmp_path):
    trained(few, tmp_path / "single")
    yielded = trained(few, tmp_path / "half", (2,), precision="float16")
    yielded += trained(few, tmp_path / "half", (4,), precision="float16")  # from the checkpoint
    for epoch, model in yielded:
        name = f"epoch-{epoch:04d}.safetensors"
        single, half = (load_file(tmp_path / folder / name) for folder in ("single", "half"))
        assert same({key: value.half() for key, value in single.items()}, half)
        assert same(model.state_dict(), {key: value.float() for key, value in half.items()})
        assert not same(model.state_dict(), single)
    checkpoints = [load_file(tmp_path / folder / "checkpoint.safetensors") for folder in ("single", "half")]
    assert same(*({k: v for k, v in c.items() if k != "seconds"} for c in checkpoints))


@pytest.mark.slow
def test_a_record_says_that_half_precision_was_judged(tmp_path):
    half, single = Store(tmp_path / "half", precision="float16"), Store(tmp_path / "single")
    record, other = (run(tiny(n=40), quiet(store)) for store in (half, single))
    assert record.provenance["snapshots"] == "float16" and "snapshots" not in other.provenance
    assert verify(record, quiet(half), 40) == (80, 80)
    beside = Store(tmp_path / "beside", beside=half)  # takes the network as it is
    again = run(tiny(["fgsm"]), quiet(beside))
    assert again.provenance["snapshots"] == "float16"
    assert load_model(beside.snapshot(tiny().training, 3))[0].weight.dtype == torch.float32


def test_the_profile_paper_stores_half_precision_and_so_do_custom_runs_of_it():
    for profile in PROFILES:
        expected = "float16" if profile == "paper" else "float32"
        assert Parameters(profile).store.precision == expected
        assert Parameters(profile, n_test=10).store.precision == expected
    with pytest.raises(ValueError, match="'float8'"):
        Store(ROOT, precision="float8")


@pytest.mark.slow
def test_the_workflow_passes_the_device_to_every_job(tmp_path):
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--cores", "2"]
    command = [*snakemake, "--nolock", "--dry-run", "--printshellcmds", "--config", "profile=paper", "device=cuda"]
    environment = os.environ | {"PRLIB_RESULTS": str(tmp_path)}
    planned = subprocess.run([*command, "--", "site"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr
    said = planned.stdout + planned.stderr
    assert said.count("-p device cuda") == len(CHAPTERS)
    trainings = {e.training for e in Parameters("paper").experiments()}
    assert said.count("--device cuda") == len(trainings)
