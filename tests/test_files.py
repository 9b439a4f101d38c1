"""Files and daily use: damaged and unwritable ones, full disks, locks, modes, interruptions."""

import copy
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from torch import nn

from prlib.cases import judge
from prlib.command_line import main
from prlib.data import load
from prlib.experiment import Defence, Experiment, Training
from prlib.fast import FastCNN
from prlib.files import atomically, locked, save_tensors
from prlib.profiles import default_recipe, results_folder
from prlib.redraw import PixelRedraw, Quantised, RandomInversion
from prlib.rivals import JPEG, BitDepth, GaussianNoise, smoothed
from prlib.run import Context, prepare, run, verify
from prlib.snapshot import Snapshot, load_model, snapshot_path
from prlib.store import Store
from prlib.train import Recipe, checkpoint_path, train, transformed

ROOT = Path(__file__).parents[1]
TRAINING = Training("mnist", "sample", 20, Defence(), default_recipe("mnist"), 0)
EXPERIMENT = Experiment(TRAINING, (Defence(),), (1,), 20, (), ())
META = Snapshot(Path(), "mnist", "sample", 1.0, TRAINING.name, 1).metadata


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """A write beyond so many bytes fails inside, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Damaged files are named, with what to do.


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "a few bytes": lambda content: content[:7],
    "truncated in the header": lambda content: content[:100],
    "truncated": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "a header without end": lambda content: (2**62).to_bytes(8, "little") + content[8:],
    "other tensors": lambda content: save({"a": torch.zeros(3)}, META),
    "text": lambda content: b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_name_their_file(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "epoch-0001.safetensors"
    save_tensors(FastCNN().state_dict(), path, META)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(ValueError, match=rf"^{path} is not a snapshot of a network \(.*\); restore it") as error:
        load_model(path)
    assert "\n" not in str(error.value)
    redraw = tmp_path / "redraw.safetensors"
    PixelRedraw.fit(steps=5).save(redraw)
    redraw.write_bytes(DAMAGES[damage](redraw.read_bytes()))
    with pytest.raises(ValueError, match=f"^{redraw} is not a file of PR models"):
        PixelRedraw.load(redraw)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int32])
def test_networks_in_other_numbers_are_refused_before_they_are_judged(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "epoch-0001.safetensors"
    save_tensors({name: value.to(dtype) for name, value in FastCNN().state_dict().items()}, path, META)
    with pytest.raises(ValueError, match=rf"must hold float32 or float16, not {dtype}\); restore it"):
        load_model(path)


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "long"])
def test_a_network_that_took_no_time_in_seconds_is_refused(tmp_path: Path, seconds: str) -> None:
    path = tmp_path / "epoch-0001.safetensors"
    save_tensors(FastCNN().state_dict(), path, META | {"seconds": seconds})
    with pytest.raises(ValueError, match=f"^{path} is not a snapshot of a network"):
        Snapshot.read(path)


def test_a_damaged_network_is_found_before_anything_is_computed(tmp_path: Path) -> None:
    store, later = Store(tmp_path), replace(EXPERIMENT, training=replace(TRAINING, seed=1))
    path = snapshot_path(store.weights(later.training), 1)
    save_tensors(FastCNN().state_dict(), path, META)  # another training's
    with pytest.raises(ValueError, match=f"^{path} must hold the network of {later.training.name}"):
        prepare([EXPERIMENT, later], Context(store, progress="none"))
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


def train_on(folder: Path, *epochs: int) -> list[tuple[int, FastCNN]]:
    split = load("mnist", "train", "sample").take(20)
    return list(train(split, Recipe(), transformed(None), epochs, 0, folder, progress="none"))


def without(name: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def replaced(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., dict[str, torch.Tensor]]:
    return lambda tensors: tensors | {name: change(tensors[name])}


CHANGES = {
    "no epoch": without("epoch"),
    "no weight": without("model.0.weight"),
    "no step of Adam": without("adam.7.exp_avg"),
    "NaN": replaced("model.0.weight", lambda value: value * float("nan")),
    "another shape": replaced("model.0.weight", lambda value: value[:3]),
    "another shape of Adam's": replaced("adam.0.exp_avg", lambda value: value[:3]),
}


@pytest.mark.parametrize("damage", [*DAMAGES, *CHANGES])
def test_a_damaged_checkpoint_names_its_file_and_stays(tmp_path: Path, damage: str) -> None:
    train_on(tmp_path, 1)
    path = checkpoint_path(tmp_path)
    if damage in CHANGES:
        save_tensors(CHANGES[damage](load_file(path)), path)
    else:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"^{path} is not a checkpoint of this training \(.*\); move it away"):
        train_on(tmp_path, 2)
    assert path.read_bytes() == before
    path.unlink()
    assert train_on(tmp_path, 2)[0][0] == 2


def test_a_single_bit_that_has_changed_is_noticed(tmp_path: Path) -> None:
    """In the numbers and in what is said of them, of a snapshot, a checkpoint and PR models; finite all the same."""
    train_on(tmp_path, 1)
    PixelRedraw.fit(steps=5).save(tmp_path / "redraw.safetensors")
    read: dict[str, Callable[[Path], Any]] = {"epoch-0001": load_model, "redraw": PixelRedraw.load}
    read["checkpoint"] = lambda path: train_on(path.parent, 2)
    for name, call in read.items():
        path = tmp_path / f"{name}.safetensors"
        content = path.read_bytes()
        call(path)
        start = 8 + int.from_bytes(content[:8], "little")
        for place in (start, (start + len(content)) // 2, len(content) - 4, content.find(b'"seconds":"') + 11):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            (tmp_path / "epoch-0002.safetensors").unlink(missing_ok=True)
            if place > 10:  # which not every file says
                with pytest.raises(ValueError, match=rf"^{path} is not .*does not have the digest that it holds"):
                    call(path)
        path.write_bytes(content)


def test_published_networks_have_their_published_digests_whenever_they_are_used(tmp_path: Path) -> None:
    published = ROOT / "results" / "published"
    (source,) = published.glob("weights/mnist-full60000-pr-s0-*/epoch-0050.safetensors")
    record = next(r for r in Store(published).records()[0] if r.experiment.training.name == source.parent.name)
    copy = tmp_path / source.relative_to(published)
    copy.parent.mkdir(parents=True)
    shutil.copy(published / "weights" / "SHA256SUMS", tmp_path / "weights")
    content = bytearray(source.read_bytes())
    copy.write_bytes(content)
    store, training = Store(tmp_path), record.experiment.training
    assert store.snapshots(training, [50]) and load_model(copy)
    content[-1000] ^= 1
    copy.write_bytes(content)
    borrower = Store(tmp_path / "own", store)
    uses: list[Callable[[], Any]] = [lambda: load_model(copy), lambda: store.snapshots(training, [50])]
    uses += [lambda: verify(record, Context(store), 1), lambda: borrower.gather(training, [50])]
    uses += [lambda: run(record.experiment, Context(borrower, progress="none"))]
    for use in uses:
        with pytest.raises(ValueError, match=rf"^{copy} is not a snapshot .*its SHA-256 is not the one in"):
            use()
    assert not list((tmp_path / "own").rglob("*.safetensors"))


def test_a_checkpoint_goes_on_in_its_own_training_alone(tmp_path: Path) -> None:
    split = load("mnist", "train", "sample").take(20)
    how = (Recipe(), transformed(None))
    assert list(train(split, *how, [1], 0, tmp_path, progress="none", name="this"))
    (tmp_path / "epoch-0001.safetensors").unlink()
    with pytest.raises(ValueError, match=r"^.*checkpoint of this training \(ValueError: it is that of this\); move it"):
        list(train(split, *how, [2], 0, tmp_path, progress="none", name="another"))
    save_tensors(load_file(checkpoint_path(tmp_path)), checkpoint_path(tmp_path))  # an older one says nothing
    assert [epoch for epoch, _ in train(split, *how, [2], 0, tmp_path, progress="none", name="another")] == [2]


def test_damaged_weights_end_a_command_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    command = [
        "mnist-sample20-none-s0-e1-clean",
        "--n-train",
        "20",
        "--n-test",
        "20",
        "--epochs",
        "1",
        "--progress",
        "none",
    ]
    assert main(["run", *command]) == 0
    (path,) = tmp_path.rglob("epoch-0001.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    capsys.readouterr()
    assert main(["verify", *command]) == 2
    assert capsys.readouterr().err == (
        f"prlib: {path} is not a snapshot of a network (SafetensorError: Error while deserializing: incomplete "
        "metadata, file not fully covered); restore it, or delete it to train anew\n"
    )


# What cannot be written.


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_tensors({"a": torch.zeros(3)}, path)
    before = path.read_bytes()
    with full_disk(10_000), pytest.raises(OSError, match=rf"^{path} cannot be written, and stays as it was \(.*large"):
        save_tensors({"a": torch.zeros(10_000)}, path)
    with full_disk(10_000), pytest.raises(OSError, match=f"^{path} cannot be written"), atomically(path) as partial:
        partial.write_text("x" * 20_000)
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


def test_a_full_disk_ends_a_run_in_one_sentence_and_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    command = ["run", "mnist-sample20-none-s0-e1-clean", "--n-train", "20", "--n-test", "20", "--epochs", "1"]
    with full_disk(100_000):
        assert main([*command, "--progress", "none"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"prlib: {tmp_path}") and "cannot be written" in said and said.count("\n") == 1
    assert main([*command, "--progress", "none"]) == 0


def as_somebody_else(call: Callable[[], Any]) -> Any:
    """What a call gives, or its error, in a process that is not root's."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(False)

    def work() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            theirs.send(call())
        except Exception as error:
            theirs.send(error)

    process = context.Process(target=work)
    process.start()
    found = ours.recv()
    process.join()
    return found


@pytest.mark.parametrize("locked_up", ["", "records", "weights", f"weights/{TRAINING.name}"])
def test_a_store_that_cannot_be_written_is_found_before_anything_is_computed(tmp_path: Path, locked_up: str) -> None:
    root = tmp_path / "store"
    for folder in (root, root / "records", root / "weights", root / "weights" / TRAINING.name):
        folder.mkdir()
        folder.chmod(0o777)
    for parent in (folder for folder in (tmp_path, *tmp_path.parents) if "pytest" in str(folder)):
        parent.chmod(parent.stat().st_mode | 0o055)
    context = Context(Store(root), progress="none")
    store = Store(root)
    assert as_somebody_else(lambda: store.check_writable([TRAINING])) is None
    (root / locked_up).chmod(0o555)
    for call in (run, lambda experiment, context: prepare([experiment], context)):
        error = as_somebody_else(lambda call=call: call(EXPERIMENT, context))
        assert isinstance(
            error, OSError
        ) and f"the store's {root / locked_up} must be a folder that can be written to" in str(error)
    assert not list(root.rglob("*.safetensors"))


@pytest.mark.parametrize("name", ["", "records", "weights"])
def test_a_file_in_the_place_of_a_folder_is_found_before_anything_is_computed(tmp_path: Path, name: str) -> None:
    root = tmp_path / "store"
    if name:
        root.mkdir()
    (root / name).touch()
    with pytest.raises(OSError, match=f"the store's {root / name} must be a folder that can be written to"):
        run(EXPERIMENT, Context(Store(root), progress="none"))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_weights_are_readable_for_whom_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        run(EXPERIMENT, Context(Store(tmp_path / "store"), progress="none"))
        PixelRedraw.fit(steps=5).save(tmp_path / "store" / "redraw.safetensors")
        with locked(tmp_path / "store" / "lock", "works"):
            pass
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == {p.name: oct(mode) for p in files}
    assert {path.suffix for path in files} >= {".safetensors", ".json"} and len(files) >= 5


# Locks.


@pytest.mark.slow
def test_whoever_waits_for_a_lock_says_so_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from prlib.files import locked\n"
        "with locked(Path(sys.argv[1]), 'trains mnist'): print('inside', flush=True)"
    )
    command = [sys.executable, "-c", script, tmp_path / "lock"]
    free = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (free.stdout, free.stderr) == ("inside\n", "")
    with locked(tmp_path / "lock", "works"), locked(tmp_path / "lock", "works"):  # twice in one process
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        assert said == f"prlib: waiting for another process, which trains mnist (it holds {tmp_path / 'lock'})\n"
        time.sleep(0.2)
        assert waiting.poll() is None
    assert waiting.communicate() == ("inside\n", "") and waiting.returncode == 0


def test_a_second_run_of_a_training_says_that_it_waits(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    with store.lock(TRAINING):
        context = multiprocessing.get_context("fork")
        process = context.Process(target=run, args=(EXPERIMENT, Context(store, progress="none")))
        process.start()
        process.join(2)
        assert process.is_alive()
    process.join()
    assert process.exitcode == 0 and store.is_current(EXPERIMENT)
    said = capfd.readouterr().err
    assert said.count("waiting for another process") == 1 and f"works on {TRAINING.name}" in said


# Processes.


@pytest.mark.slow
def test_the_shells_command_works_in_a_process_of_its_own(tmp_path: Path) -> None:
    """What it starts imports the command line by its name; called as a function it always did."""
    command = [
        sys.executable,
        "-m",
        "prlib",
        "run",
        "mnist-sample20-none-s0-e1-clean",
    ]
    command += ["--n-train", "20", "--n-test", "20", "--epochs", "1", "--progress", "none", "--jobs", "2"]
    environment = os.environ | {"PRLIB_RESULTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.rglob("*.json"))) == 1


# Interruptions.


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.slow
def test_an_interrupted_run_says_one_sentence_and_goes_on(tmp_path: Path, jobs: int) -> None:
    command = [sys.executable, "-m", "prlib", "run", "mnist-sample500-none-s0-e", "mnist-sample500-noise-s0-e"]
    command += ["--n-train", "500", "--epochs", "300", "--n-test", "20", "--progress", "none", "--jobs", str(jobs)]
    environment = os.environ | {"PRLIB_RESULTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    assert process.stdout is not None and "[1/" in process.stdout.readline()
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)
    assert said == "prlib: interrupted; the same command goes on from here\n"
    assert process.returncode == 130


def test_where_an_interruption_falls_does_not_change_the_exit_status(tmp_path: Path) -> None:
    """CPython notes one that falls into an ``exec`` of a string, such as a dataclass's, and would end by the signal."""
    falls = "c.describe_plan = c.plan = lambda *_: exec('raise KeyboardInterrupt')"
    script = f"import sys, prlib.command_line as c\n{falls}\nsys.exit(c.main(['list']))\n"
    (tmp_path / "listing.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-m", "listing"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "prlib: interrupted; the same command begins anew\n")


def interruptible() -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it


@pytest.mark.parametrize("delay", [0.1, 0.5, 1.0, 1.5])
def test_an_interruption_while_modules_are_imported_shows_no_traceback(delay: float) -> None:
    command = [sys.executable, "-m", "prlib", "list", "--profile", "published"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True, preexec_fn=interruptible)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said and said.count("\n") <= 1
    assert process.returncode in (0, 130, -signal.SIGINT)


# Homes and copies.


def test_a_home_is_expanded_where_results_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PRLIB_RESULTS", "~/x")
    assert results_folder() == tmp_path / "x"


COPIED = {
    "redraw": lambda: PixelRedraw.fit(k=3, steps=50),
    "redraw of images": lambda: PixelRedraw.fit(k=2, steps=(3, 50), choice="image", decimals=None),
    "noise": lambda: GaussianNoise(0.3),
    "bits": lambda: BitDepth(3),
    "JPEG": lambda: JPEG(50),
    "smoothed": lambda: smoothed(0.3, votes=3),
    "quantised": lambda: Quantised(PixelRedraw.fit(steps=50)),
    "inversion": lambda: RandomInversion(PixelRedraw.fit(steps=50)),
}


@pytest.mark.parametrize("name", COPIED)
def test_defences_can_be_pickled_and_copied(name: str, tmp_path: Path) -> None:
    defence, images = COPIED[name](), torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.save(defence, tmp_path / "defence.pt")
    copies = [pickle.loads(pickle.dumps(defence)), copy.deepcopy(defence)]
    copies.append(torch.load(tmp_path / "defence.pt", weights_only=False))
    for other in copies:
        drawn = [d(images, torch.Generator().manual_seed(1)) for d in (defence, other)]
        assert torch.equal(*drawn)
    if name == "redraw":  # the copy, too, finds its thresholds when it is given others' weights
        other = PixelRedraw.fit(k=3, steps=99, seed=5)
        copies[0].load_state_dict(other.state_dict())
        assert torch.equal(copies[0].thresholds, other.thresholds)


def test_networks_splits_and_outcomes_can_be_pickled() -> None:
    split = load("mnist", "test", "sample").take(20)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    outcome = judge(model, split, None, 0)["normal"]
    for thing in (split, outcome, FastCNN(), EXPERIMENT, Store(Path("x"))):
        assert type(pickle.loads(pickle.dumps(thing))) is type(thing)
    assert pickle.loads(pickle.dumps(split)) == split and pickle.loads(pickle.dumps(EXPERIMENT)) == EXPERIMENT
