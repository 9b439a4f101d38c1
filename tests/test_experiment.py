"""Experiments, records and the store: keys, round trips, resumption, staleness, refusals."""

import copy
import dataclasses
import functools
import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from conftest import ROOT, brief
from safetensors.torch import load_file
from torch import nn

from prlib import pages, paper
from prlib.cases import BATCH_SIZE, judge
from prlib.command_line import main
from prlib.data import load
from prlib.estimate import describe_plan
from prlib.experiment import WEIGHTS, Defence, Experiment, Training, key, labelled, to_json
from prlib.files import save_tensors
from prlib.findings.cells import measured
from prlib.pages.commands import recompute_command
from prlib.profiles import PROFILES, Parameters, check_names, default_attack, default_defence, default_recipe
from prlib.profiles.protocol import checked_protocol, read_yaml
from prlib.profiles.suites import read_profile, read_suites
from prlib.record import RESULTS, pack, read_record, unpack
from prlib.run import Context, prepare, run, verify
from prlib.schema import parsed
from prlib.seeds import derive
from prlib.snapshot import Snapshot, load_model
from prlib.store import Store
from prlib.train import Trainer


def tiny(trained_with="pr", epochs=(1, 2), n_train=130, n_test=100, seed=0, source="sample"):
    defence = default_defence(trained_with, "mnist", seed)
    training = Training("mnist", source, n_train, defence, default_recipe("mnist"), seed)
    return Experiment(training, (default_defence("none", "mnist"), default_defence("pr", "mnist")), epochs, n_test)


def quiet(store):
    return Context(store, progress="none")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def record(store):
    return run(tiny(), quiet(store))


def test_a_record_has_every_cell_and_says_where_it_comes_from(record):
    assert [(c.epoch, c.tested_with) for c in record.cells] == [(1, "none"), (1, "pr"), (2, "none"), (2, "pr")]
    for cell in record.cells:
        assert cell.total == 100 and cell.correct == unpack(cell.success, 100).sum()
        redrawn = cell.tested_with == "pr"
        # redrawing changes nearly all of 784 values, by less than 0.4 each, and the identity none
        assert (cell.l0 > 700, cell.l2 > 1, 0.3 < cell.linf <= 0.4001) == (redrawn,) * 3
    assert set(record.provenance) == {
        "commit",
        "dirty",
        "versions",
        "machine",
        "tf32",
        "finished",
        "seconds",
        "digests",
        "peak_megabytes",
    }
    assert record.provenance["digests"]["test"] == load("mnist", "test", "sample").take(100).digest


def test_a_stored_record_is_loaded_not_measured_again(record, store):
    path = store.record_path(record.experiment)
    before = path.stat().st_mtime_ns
    assert run(tiny(), quiet(store)) == read_record(path)
    assert path.stat().st_mtime_ns == before


def test_the_same_experiment_gives_the_same_cells_elsewhere(record, tmp_path):
    assert run(tiny(), quiet(Store(tmp_path))).cells == record.cells


def test_judging_alone_uses_the_stored_weights(record, store):
    weights = store.weights(record.experiment.training) / "epoch-0002.safetensors"
    before = weights.stat().st_mtime_ns
    more = run(tiny(epochs=(2,), n_test=120), quiet(store))
    assert weights.stat().st_mtime_ns == before
    assert more.cells[0].total == 120


def test_verify_finds_the_recorded_examples_and_notices_other_weights(record, store, tmp_path):
    assert verify(record, quiet(store), n=100) == (400, 400)
    flipped = [dataclasses.replace(c, success=pack(~unpack(c.success, c.total))) for c in record.cells]
    assert verify(dataclasses.replace(record, cells=tuple(flipped)), quiet(store), n=100) == (0, 400)
    with pytest.raises(FileNotFoundError, match="not all in the store"):
        verify(record, quiet(Store(tmp_path)), n=100)


@pytest.mark.slow
def test_output_that_nobody_reads_to_its_end_is_no_error():
    command = [sys.executable, "-m", "prlib", "list", "--names"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_networks_trained_with_tf32_are_kept_apart(record, store, tmp_path):
    exact, coarse = (store.weights(record.experiment.training, tf32) for tf32 in (False, True))
    provenance = record.provenance | {"machine": {"device": "a GPU"}, "tf32": True}
    with_tf32 = dataclasses.replace(record, provenance=provenance)
    assert with_tf32.tf32 and not record.tf32 and with_tf32.device == "a GPU with TF32"
    older = {"machine": {"device": "a GPU with TF32"}}  # before there was a field for it
    assert dataclasses.replace(record, provenance=older).tf32
    assert dataclasses.replace(record, provenance=older).device == "a GPU with TF32"
    with pytest.raises(FileNotFoundError, match="-tf32"):
        verify(with_tf32, quiet(store), n=100)
    moved = Store(tmp_path)
    shutil.copytree(exact, moved.weights(record.experiment.training, tf32=True))
    assert verify(with_tf32, quiet(moved), n=100) == (400, 400)
    with pytest.raises(FileNotFoundError):
        verify(record, quiet(moved), n=100)
    assert not moved.weights(record.experiment.training).exists() and not coarse.exists()


@pytest.mark.slow
def test_adaptive_attacks_know_the_defence_and_the_strongest_is_judged_afresh(store, tmp_path):
    lacking = Store(tmp_path)
    names = ["eot-pgd@0.3", "crossing@0.3", "transfer@0.3"]
    attacks = tuple(brief(default_attack(name.removesuffix("@0.3"), "cifar10", 0.3)) for name in names)
    assert all(dict(a.options)["epsilon"] == 0.3 for a in attacks)
    none, redrawn = default_defence("none", "mnist"), default_defence("pr", "mnist")
    experiment = dataclasses.replace(
        tiny(epochs=(2,), n_test=12), tested_with=(redrawn,), attacks=attacks, cases=("adaptive",)
    )
    record = run(experiment, quiet(store))
    assert [labelled(c.attack, c.epsilon) for c in record.cells] == [*names, "strongest@0.3"]
    assert all(c.case == "adaptive" and 0 < c.attacked <= 0.3 + 1e-6 for c in record.cells)
    surrogate = dataclasses.replace(experiment.training, defence=none)
    assert (store.weights(surrogate) / "epoch-0002.safetensors").exists()
    assert verify(record, quiet(store), n=12) == (48, 48)
    shutil.copytree(store.weights(experiment.training), lacking.weights(experiment.training))
    with pytest.raises(FileNotFoundError, match=surrogate.name):
        verify(record, quiet(lacking), n=12)
    assert not lacking.judgeable(record) and not lacking.weights(surrogate).exists()
    phases = measured([record]).set_index("attack").phase
    assert set(phases) == {"both"}
    with pytest.raises(ValueError, match="'eot-pgd' does not go with the cases A"):
        dataclasses.replace(experiment, cases=("A",))
    with pytest.raises(ValueError, match="does not go with the cases adaptive"):
        dataclasses.replace(experiment, attacks=(default_attack("fgsm", "mnist"),))


def contents(store):
    return {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("change", [{"source": "full"}, {"n_test": 5000}, {"n_train": 60000}])
def test_everything_is_checked_before_anything_is_measured_anew(store, record, tmp_path, change):
    before = contents(store)
    context = dataclasses.replace(quiet(store), data=tmp_path / "nowhere" / "\0")
    for anew in (True, False):
        with pytest.raises((OSError, ValueError)):
            prepare([record.experiment, tiny(**change)], context, anew=anew)
    assert contents(store) == before and store.is_current(record.experiment)


def test_an_impossible_context_is_refused_before_anything_is_measured(store):
    with pytest.raises(ValueError, match="tf32 needs a GPU; got device 'cpu'"):
        Context(store, tf32=True)
    with pytest.raises(ValueError, match="cuda:99"):
        Context(store, device="cuda:99")
    with pytest.raises(ValueError, match='not "sample"'):
        Context(store, data="sample")


@pytest.mark.parametrize("profile", PROFILES)
def test_the_strongest_attack_is_never_two_different_ones(profile):
    """Records whose "strongest" would be averaged as if they were seeds of one experiment."""
    keys = [
        (e.training, e.tested_with, e.epochs, e.n_test, e.drawn, len(e.attacks), e.attacks[0].epsilon)
        for e in Parameters(profile).experiments()
        if e.cases == ("adaptive",)
    ]
    assert len(keys) == len(set(keys))


def test_what_is_measured_anew_replaces_what_is_there(tmp_path):
    store, experiment = Store(tmp_path), tiny("none", epochs=(1,))
    first = run(experiment, quiet(store))
    weights = store.weights(experiment.training)
    kept = weights / "epoch-0009.safetensors"  # of an epoch that is not asked for
    kept.write_text("")
    before = {path: path.stat().st_mtime_ns for path in (weights / "epoch-0001.safetensors", *tmp_path.rglob("*.json"))}
    prepare([experiment], quiet(store), anew=True)
    assert run(experiment, quiet(store), anew=True).cells == first.cells
    assert all(path.stat().st_mtime_ns > then for path, then in before.items()) and len(before) == 2
    assert kept.exists() and not (weights / "anew").exists()


def test_measuring_anew_can_be_interrupted_and_goes_on(tmp_path, monkeypatch):
    store, experiment = Store(tmp_path), tiny("none", epochs=(1, 2))
    run(experiment, quiet(store))
    before, advance = contents(store), Trainer.advance

    def interrupted(self, epoch, bar):
        if epoch == 2:
            raise KeyboardInterrupt
        advance(self, epoch, bar)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "advance", interrupted)
        prepare([experiment], quiet(store), anew=True)
    assert before.items() <= contents(store).items()
    trained = []
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "advance", lambda self, epoch, bar: trained.append(epoch) or advance(self, epoch, bar))
        prepare([experiment], quiet(store), anew=True)
    assert trained == [2]
    assert not (store.weights(experiment.training) / "anew").exists() and contents(store).keys() == before.keys()


def test_measuring_a_transfer_attack_anew_trains_the_other_network_too(tmp_path):
    store, experiment = Store(tmp_path), transferred()
    run(experiment, quiet(store))
    folders = [store.weights(training) for training in experiment.networks]
    before = [(folder / "epoch-0001.safetensors").stat().st_mtime_ns for folder in folders]
    prepare([experiment], quiet(store), anew=True)
    after = [(folder / "epoch-0001.safetensors").stat().st_mtime_ns for folder in folders]
    assert len(folders) == 2 and all(map(int.__gt__, after, before))


def transferred():
    tested = (default_defence("pr", "mnist"),)
    attacks = (brief(default_attack("transfer", "mnist")),)
    base = tiny(epochs=(1,), n_test=12)
    return dataclasses.replace(base, tested_with=tested, attacks=attacks, cases=("adaptive",))


@pytest.mark.slow
def test_a_transfer_attack_on_the_network_that_it_is_made_on(tmp_path):
    experiment = dataclasses.replace(transferred(), training=tiny("none").training, epochs=(1, 2))
    record = run(experiment, quiet(Store(tmp_path)))
    assert verify(record, quiet(Store(tmp_path)), n=12) == (48, 48)


@pytest.mark.slow
def test_verifying_a_transfer_attack_writes_nothing(tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    record = run(transferred(), quiet(store))
    for lock in store.root.rglob(".lock"):
        lock.unlink()
    reader = Store(tmp_path / "empty", beside=store)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("prlib.files.FileLock", None)  # whoever locks fails
    assert verify(record, quiet(reader), n=12) == (24, 24)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("stale", [False, True])
def test_a_process_that_has_waited_takes_the_record_that_another_has_measured(record, tmp_path, monkeypatch, stale):
    store, lock = Store(tmp_path), Store.lock
    if stale:
        store.save(dataclasses.replace(record, results=RESULTS - 1))

    @contextmanager
    def other_process_first(self, *arguments):
        with lock(self, *arguments) as folder:
            self.save(record)
            yield folder

    monkeypatch.setattr(Store, "lock", other_process_first)
    monkeypatch.setattr("prlib.run.train", None)  # whoever trains fails
    assert run(record.experiment, quiet(store)) == record


def test_a_stale_record_is_known_and_measured_again(record, tmp_path, monkeypatch):
    store = Store(tmp_path)
    run(tiny(epochs=(1,)), quiet(store))
    monkeypatch.setattr("prlib.record.RESULTS", RESULTS + 1)
    old = store.load(tiny(epochs=(1,)))
    assert old.stale and not store.is_current(tiny(epochs=(1,)))
    assert not run(tiny(epochs=(1,)), quiet(store)).stale


def test_golden_values_catch_a_change_of_the_numbers(record, store):
    """Fails when numbers change: then raise RESULTS, and WEIGHTS if it is the weights, and renew these values."""
    assert (RESULTS, WEIGHTS) == (2, 2)
    redraw = default_defence("pr", "mnist").build()
    assert redraw.thresholds[0].tolist() == pytest.approx([0.3558963, 0.6304369], abs=1e-6)
    images = torch.linspace(0, 1, 8).reshape(1, 1, 2, 4)
    values = redraw(images, torch.Generator().manual_seed(0)).flatten().tolist()
    assert values == pytest.approx(GOLDEN_REDRAW, abs=1e-6)
    assert derive(0, "training") == 26962772879181041
    assert load("mnist", "train", "sample").take(130, seed=derive(0, "images")).digest.startswith(GOLDEN_DIGEST)
    weights = load_model(store.weights(record.experiment.training) / "epoch-0002.safetensors")[-1].weight
    # a step moves a weight by 0.001; float32 sums on another kind of CPU, by far less
    assert weights[:2, :3].flatten().tolist() == pytest.approx(GOLDEN_WEIGHTS, abs=2e-4)


GOLDEN_REDRAW = [0.2, 0.31, 0.04, 0.35, 0.42, 0.85, 0.8, 0.96]
GOLDEN_DIGEST = "e52dd3e0a3c77516"
GOLDEN_WEIGHTS = [-0.03206, 0.21135, -0.12808, 0.00568, 0.00801, 0.13626]


def test_keys_change_with_every_field_and_only_with_fields():
    base = tiny()
    assert key(base) == key(tiny()) and base.name == tiny().name
    others = [tiny("none"), tiny(epochs=(1,)), tiny(n_train=131), tiny(n_test=99), tiny(seed=1), tiny(source="full")]
    others.append(dataclasses.replace(base, tested_with=base.tested_with[:1]))
    assert len({key(e) for e in [base, *others]}) == len(others) + 1
    # epochs, tests and test defences are not part of the training
    assert key(base.training) == key(tiny(epochs=(1,)).training) == key(tiny(n_test=99).training)


def test_records_survive_a_round_trip(record, tmp_path):
    path = tmp_path / f"{record.experiment.name}.json"
    path.write_text(json.dumps(to_json(record)))
    again = read_record(path)
    assert again == record and again.experiment.name == record.experiment.name


@pytest.mark.parametrize("text", ["", "{}", '{"experiment": {}}', "[1]"])
def test_a_file_that_is_no_record_is_refused_by_name(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"broken\.json is not a record"):
        read_record(path)


def first_cell(**values):
    return lambda data: data["cells"][0].update(values)


DAMAGES = {
    "more correct than there are": (first_cell(correct=9999), "correct is 9999"),
    "a fraction of an image": (first_cell(correct=200.5), "cells.0.correct"),
    "a count as text": (first_cell(correct="50"), "cells.0.correct"),
    "a count as a truth": (first_cell(epoch=True), "cells.0.epoch"),
    "other images": (first_cell(total=1_000_000), "total is 1000000, of 100 test images"),
    "bits of no image": (lambda data: flip(data, -1), "does not hold 100 bits"),
    "another bit": (lambda data: flip(data, 0), "bits are set"),
    "fewer bits": (lambda data: data["cells"][0].update(success=data["cells"][0]["success"][:-2]), "100 bits"),
    "no bits": (first_cell(success="what"), "hexadecimal"),
    "a distance that is none": (first_cell(l2=float("nan")), "cells.0.l2"),
    "more than all images": (first_cell(stuck=1.5), "cells.0.stuck"),
    "another case": (first_cell(case="A"), "cells are not those"),
    "another epsilon": (first_cell(attack="fgsm@0.1"), "cells are not those"),
    "one more value": (first_cell(comment="mine"), "what no record does"),
    "no cells": (lambda data: data.update(cells=[]), "its 0 cells are not those"),
    "a cell less": (lambda data: data["cells"].pop(), "its 3 cells are not those"),
    "cells in another order": (lambda data: data["cells"].reverse(), "cells are not those"),
    "no provenance": (lambda data: data.pop("provenance"), "provenance"),
    "an empty provenance": (lambda data: data.update(provenance={}), "provenance.commit"),
    "no commit": (lambda data: data["provenance"].update(commit=1), "provenance.commit"),
    "another seed": (
        lambda data: data["experiment"]["training"].update(seed=5),
        "its content is mnist-sample130-pr-s5",
    ),
    "an unknown defence": (lambda data: data["experiment"]["training"]["defence"].update(name="magic"), "'magic'"),
    "options that are none": (lambda data: data["experiment"]["training"]["defence"].update(options=5), "not"),
    "an infinite distance": (first_cell(l2=math.inf), "cells.0.l2"),
    "a distance that no image has": (first_cell(l0=785), "l0 and l2 are 785 and "),
    "a change of more than a pixel": (first_cell(linf=1.5), "cells.0.linf"),
    "an attack where there is none": (first_cell(attacked=0.5), "attacked is 0.5, of at most 0"),
    "a time that is none": (lambda data: data["provenance"]["seconds"].update(total=-1.0), "seconds.total"),
    "memory that is none": (lambda data: data["provenance"].update(peak_megabytes=-1), "provenance.peak_megabytes"),
    "no core": (lambda data: data["provenance"]["machine"].update(cores=0), "machine.cores"),
    "other numbers": (lambda data: data["provenance"].update(snapshots="int8"), "provenance.snapshots"),
    "no digest of its images": (lambda data: data["provenance"].update(digests={}), "the digest of the test images"),
    "newer results": (lambda data: data.update(results=99), "its results is 99"),
    "a newer schema": (lambda data: data.update(schema=2), "its schema is 2"),
}


def flip(data, byte):
    bits = bytearray.fromhex(data["cells"][0]["success"])
    bits[byte] ^= 1
    data["cells"][0]["success"] = bits.hex()


@pytest.mark.parametrize(("damage", "named"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_named_and_does_not_block_the_others(record, tmp_path, damage, named):
    store, data = Store(tmp_path), to_json(record)
    store.save(dataclasses.replace(record, results=RESULTS - 1))  # stale: accepted
    assert store.records() == ([store.load(record.experiment)], [])
    other = dataclasses.replace(record.experiment, training=dataclasses.replace(record.experiment.training, seed=7))
    store.save(dataclasses.replace(record, experiment=other))
    damage(data)
    path = store.record_path(record.experiment)
    path.write_text(json.dumps(data))
    (readable,), (sentence,) = store.records()
    assert readable.experiment == other
    assert named in sentence and sentence.startswith(f"{path} is not a record") and "\n" not in sentence
    assert sentence.endswith("delete it or measure it again")
    assert store.records([record.experiment, other]) == ([readable], [sentence])
    with pytest.raises(ValueError, match=re.escape(sentence)):
        run(record.experiment, quiet(store))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[" * 100_000, "RecursionError"),
        ('{"schema": 1, "schema": 1}', "it says one of schema twice"),
        ('{"schema": ' + "9" * 5000 + "}", "4300 digits"),
        ("\ud800" * 1000, "UnicodeDecodeError"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_in_a_short_sentence(tmp_path, text, named):
    path = tmp_path / "records" / "x.json"
    path.parent.mkdir()
    path.write_text(text, "utf-8", "surrogatepass")
    records, (sentence,) = Store(tmp_path).records()
    assert not records and named in sentence and len(sentence) < 500 + len(str(path))


def test_a_damaged_record_is_measured_again_on_request(tmp_path):
    store, experiment = Store(tmp_path), tiny("none", epochs=(1,))
    record = run(experiment, quiet(store))
    store.record_path(experiment).write_text("{}")
    prepare([experiment], quiet(store), anew=True)
    assert run(experiment, quiet(store), anew=True).cells == record.cells == store.load(experiment).cells


@pytest.mark.parametrize("n", [1, 7, 8, 9, 250])
def test_bit_strings_round_trip(n):
    bits = torch.rand(n, generator=torch.Generator().manual_seed(n)) < 0.5
    assert len(pack(bits)) == 2 * -(-n // 8) and torch.equal(unpack(pack(bits), n), bits)


@pytest.mark.parametrize("said", [{"source": "full"}, {"dataset": "fashion-mnist"}, {"training": "x"}, {"epoch": "1"}])
def test_weights_are_judged_only_as_what_they_are(record, store, tmp_path, said):
    """Above all, weights of the full data never by the sample, whose test images are training images there."""
    training, copy = record.experiment.training, Store(tmp_path)
    shutil.copytree(store.weights(training), copy.weights(training))
    assert verify(record, quiet(copy), n=100) == (400, 400)
    path = copy.snapshot(training, 2)
    meta = Snapshot.read(path).metadata
    assert (meta["training"], meta["epoch"]) == (training.name, "2")
    older = {name: value for name, value in meta.items() if name not in ("training", "epoch")}
    save_tensors(load_file(path), path, older)  # does not say which training and epoch
    assert verify(record, quiet(copy), n=100) == (400, 400)
    save_tensors(load_file(path), path, meta | said)
    for judged in (lambda: verify(record, quiet(copy), n=100), lambda: run(record.experiment, quiet(copy))):
        with pytest.raises(
            ValueError, match=rf"must hold the network of {training.name} after 2 .*{min(said.values())}"
        ):
            judged()


def test_a_batch_judged_alone_is_judged_as_among_all():
    split = load("mnist", "test", "sample")
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    redraw = default_defence("pr", "mnist").build()
    everything = judge(model, split, redraw, 5)["normal"]
    second = judge(model, split, redraw, 5, batches=[1])["normal"]
    assert torch.equal(everything.correct[BATCH_SIZE:], second.correct)
    assert torch.equal(everything.l2[BATCH_SIZE:], second.l2)


def test_distances_are_those_of_a_known_change():
    split = load("mnist", "test", "sample").take(20)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    def darken_four(images, generator):
        changed = images.clone()
        changed[:, 0, 0, :4] = 0.5  # the border of MNIST's images is black
        return changed

    outcome = judge(model, split, darken_four, 0)["normal"]
    assert outcome.l0.eq(4).all() and outcome.linf.eq(0.5).all()
    torch.testing.assert_close(outcome.l2, torch.ones(20))


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_make_experiments_with_unique_names(profile):
    experiments = Parameters(profile=profile).experiments()
    assert len({e.name for e in experiments}) == len(experiments) > 0
    assert {e.source for e in experiments} == {"sample" if profile == "sample" else "full"}
    assert {e.training.dataset for e in experiments} == {"mnist", "fashion-mnist", "cifar10", "cifar10-gray"}


def test_the_default_protocol_is_the_released_codes():
    mnist, cifar = (default_recipe(name) for name in ("mnist", "cifar10"))
    assert (mnist.init, mnist.label_smoothing) == ("normal", 0.1)
    assert (cifar.init, cifar.label_smoothing) == ("glorot", pytest.approx(1 / 9))
    assert dict(default_defence("pr", "cifar10-gray").options)["steps"] == 10_000


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"profile": "tiny"}, "'tiny'"),
        ({"datasets": ["mnist", "svhn"]}, "'svhn'"),
        ({"datasets": "mnist"}, "datasets must be a list"),
        ({"seeds": 1}, "seeds must be a list"),
        ({"seeds": [-1]}, "-1"),
        ({"epochs": []}, "empty"),
        ({"epochs": [0]}, "0"),
        ({"epochs": [1.5]}, "1.5"),
        ({"n_train": 0}, "0"),
        ({"n_test": True}, "True"),
        ({"n_test": "many"}, "many"),
        ({"epsilon": 0}, "epsilon must be a number above 0 and up to 1; got 0"),
        ({"epsilon": 1.5}, "1.5"),
        ({"epsilon": float("nan")}, "nan"),
        ({"epsilon": "0.1"}, "'0.1'"),
        ({"epsilon": True}, "True"),
        ({"recompute": 1}, "1"),
        ({"device": None}, "device must be a name; got None"),
        ({"profile": ["sample"]}, "profile must be among"),
        ({"datasets": [["mnist"]]}, "datasets must be among"),
        ({"seeds": np.arange(2)}, r"seeds must be a list, such as \[0, 1\]; got array"),
        ({"seeds": range(0)}, "empty"),
        ({"seeds": [True]}, "True"),
    ],
)
def test_bad_parameters_are_refused_by_name(given, named):
    with pytest.raises(ValueError, match=named):
        Parameters(**given)


@pytest.mark.parametrize(
    ("name", "given", "held"),
    [
        ("seeds", range(3), (0, 1, 2)),
        ("seeds", {2, 1}, (1, 2)),
        ("seeds", [np.int64(3), 1], (1, 3)),
        ("epochs", [5, 1, 1], (1, 5)),
        ("datasets", ["mnist", "cifar10", "mnist"], ("mnist", "cifar10")),
        ("n_train", np.int32(500), 500),
        ("epsilon", np.float32(0.25), 0.25),
    ],
)
def test_parameters_are_held_as_plain_values_that_name_the_same_run(name, given, held):
    parameters = Parameters(**{name: given})
    values = getattr(parameters, name)
    assert values == held
    assert all(type(v) in (int, float, str) for v in (values if isinstance(values, tuple) else [values]))
    assert parameters.experiments() == Parameters(**{name: held}).experiments()


def changed(data, path, value):
    """A copy that says something else at a place; None takes away what is there."""
    data = copy.deepcopy(data)
    *steps, last = path
    at = functools.reduce(lambda thing, step: thing[step], steps, data)
    if value is None:
        del at[last]
    else:
        at[last] = value
    return data


def written(monkeypatch, name, path, value):
    """Have a profile's file, or that of the suites, say something else at a place; None takes that away."""
    read = read_yaml.__wrapped__
    other = changed(read(name), path, value)
    monkeypatch.setattr("prlib.profiles.suites.read_yaml", lambda asked: other if asked == name else read(asked))


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (["seed"], [1], "tenth.yaml, seed: extra inputs are not permitted; got [1]"),
        (["source"], None, "tenth.yaml, source: field required"),
        (["source"], "half", "tenth.yaml, source: input should be 'full' or 'sample'; got 'half'"),
        (["seeds"], [], "tenth.yaml, seeds: list should have at least 1 item after validation, not 0; got []"),
        (["seeds"], [True], "tenth.yaml, seeds.0: input should be a valid integer; got True"),
        (["seeds"], [0, 0], "tenth.yaml, seeds: must be in ascending order, each once; got [0, 0]"),
        (["seeds"], [2**63], "tenth.yaml, seeds.0: input should be less than "),
        (["epochs"], [20, 5], "tenth.yaml, epochs: must be in ascending order, each once; got [20, 5]"),
        (["epochs"], 5, "tenth.yaml, epochs: input should be a valid list; got 5"),
        (["datasets", 0], "svhn", "tenth.yaml, datasets.0: must be among mnist, "),
        (["n_attacked"], "1000", "tenth.yaml, n_attacked: input should be a valid integer; got '1000'"),
        (["experiments", 0, "suites", 1], "curve", "tenth.yaml, experiments.0.suites.1: must be among curves-none, "),
        (["experiments", 1, "n_test"], 3, "tenth.yaml, experiments.1.n_test: extra inputs are not permitted; got 3"),
    ],
)
def test_a_profile_that_says_something_wrong_is_refused_in_one_sentence(monkeypatch, path, value, sentence):
    assert read_profile.__wrapped__("tenth") == read_profile("tenth")
    written(monkeypatch, "tenth", path, value)
    with pytest.raises(ValueError, match=rf"^{re.escape(sentence)}[^\n]*$"):
        read_profile.__wrapped__("tenth")


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (["curves-pr", 0, "trained_with"], "prr", "experiments.yaml, curves-pr.0.trained_with: must be among none, "),
        (["curves-pr", 0, "tested_with"], None, "experiments.yaml, curves-pr.0.tested_with: field required"),
        (["steps-pr", 0, "attacks"], ["fgms"], "experiments.yaml, steps-pr.0.attacks.0: must be among fgsm, "),
        (["steps-pr", 0, "cases"], ["D"], "experiments.yaml, steps-pr.0.cases.0: must be among A, B, C, "),
        (["steps-pr", 0, "n_test"], 10, "experiments.yaml, steps-pr.0.n_test: extra inputs are not permitted; got 10"),
        (["sweep", 0, "epsilons", 1], 2, "experiments.yaml, sweep.0.epsilons.1: input should be less than or equal to"),
        (["sweep"], [], "experiments.yaml, sweep: list should have at least 1 item after validation, not 0; got []"),
    ],
)
def test_a_suite_that_says_something_wrong_is_refused_in_one_sentence(monkeypatch, path, value, sentence):
    written(monkeypatch, "experiments", path, value)
    with pytest.raises(ValueError, match=rf"^{re.escape(sentence)}[^\n]*$"):
        read_suites.__wrapped__()


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (
            ["recipe", "default", "learning_rate"],
            "1e-3",
            "recipe.default.learning_rate: input should be a valid number; got",
        ),
        (["recipe", "default", "stpes"], 5, "recipe.default.stpes: extra inputs are not permitted; got 5"),
        (["recipe", "mnits"], {}, "recipe.mnits.[key]: must be among default, mnist, "),
        (["recipes", "none-smooth"], {}, "recipes and titles: there is no defence 'none-smooth'"),
        (
            ["defences", "pr", "default", "stpes"],
            5,
            "defences: pr.default: got an unexpected keyword argument 'stpes'",
        ),
        (["defences", "quantised", "cifar10", "stpes"], 5, "defences: quantised.cifar10: got an unexpected"),
        (["defences", "adversarial-pgd", "mnist", "k"], 5, "defences: adversarial-pgd.mnist: got an unexpected"),
        (["defences", "pr", "default", "k"], "1", "defences: pr.default: k must be at least 1, "),
        (
            ["defences", "quantised", "cifar10", "steps"],
            5e3,
            "defences: quantised.cifar10: k must be at least 1, steps",
        ),
        (["defences", "pr", "default", "choice"], "pixxel", "defences: pr.default: choice must be "),
        (["defences", "noise", "default", "std"], math.nan, "defences: noise.default: std must be a positive number"),
        (["defences", "adversarial-pgd", "default", "steps"], "5", "defences: adversarial-pgd.default: steps must be "),
        (["defences", "magic"], {}, "defences: magic: must begin with none, pr, "),
        (["defences", "pr-../x"], {}, "defences: the name of the defence must be made of letters"),
        (["drawn"], None, "drawn: field required"),
        (["epsilon", "mnist"], 0, "epsilon.mnist: input should be greater than 0; got 0"),
        (["attacks", "bim", "options", "stpes"], 5, "attacks.bim.options: 'stpes' is no option of bim, which has "),
        (["attacks", "bim", "options", "steps"], "5", "attacks.bim.options: steps must be "),
        (["attacks", "bim", "options", "function"], "bmi", "attacks.bim.options: function must be among "),
        (["attacks", "bim", "options", "labels"], "none", "attacks.bim.options: labels must be "),
        (["attacks", "bim", "titel"], "x", "attacks.bim.titel: extra inputs are not permitted; got 'x'"),
        (["attacks", "pgd", "more_of"], "x", "attacks.pgd: there is no attack 'x'"),
    ],
)
def test_a_protocol_that_says_something_wrong_is_refused_in_one_sentence(path, value, sentence):
    protocol = read_yaml.__wrapped__("protocol")
    assert checked_protocol(protocol) is protocol
    with pytest.raises(ValueError, match=rf"^protocol\.yaml, {re.escape(sentence)}[^\n]*$"):
        checked_protocol(changed(protocol, path, value))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: {c: 1, c: 2}", "line 2: c is said twice"),
        ("a: [", "line 1: expected the node content"),
        ('a: !!python/object/apply:os.system ["false"]', "line 1: could not determine a constructor"),
        ("a: 1\nb: *c", "line 2: found undefined alias 'c'"),
        ("a: 1\n---\nb: 2", "line 2: but found another document"),
        ("# nothing", "it is empty"),
        ("\x00", "unacceptable character"),
    ],
)
def test_a_file_that_is_no_yaml_is_refused_in_one_sentence(tmp_path, text, sentence):
    (tmp_path / "mine.yaml").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=rf"^mine\.yaml.*{re.escape(sentence)}[^\n]*$"):
        parsed(tmp_path / "mine.yaml")


def test_numbers_in_yaml_are_decimal_and_merged_keys_may_be_said_again(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "one: &one {a: 1, b: -2}\ntwo: &two {<<: *one, a: 3}\nthree: {<<: *two, a: 4}\nc: [010, 8:20, 1_0, 0]"
    )
    assert parsed(path) == {
        "one": {"a": 1, "b": -2},
        "two": {"a": 3, "b": -2},
        "three": {"a": 4, "b": -2},
        "c": ["010", "8:20", "1_0", 0],
    }


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (
            [0, "relation"],
            "bellow",
            "0.relation: input should be 'same', 'below', 'above' or",
        ),
        ([0, "cells", "phase"], ["none", "trian"], "0.cells.phase: must be among ['none', 'train', "),
        ([0, "cells", "tabel"], 2, "0.cells.tabel.[key]: input should be 'table', "),
        ([1, "left"], None, "1.left: field required"),
        ([1, "lefft"], {}, "1.lefft: extra inputs are not permitted"),
        ([2, "change"], "true", "2.change: input should be a valid boolean; got 'true'"),
        ([2, "claim"], "One.\n\n```{raw} html\n```", "2.claim: string should match pattern"),
        ([3, "cells"], None, "3: either cells or ours must be given"),
        ([3, "fixed", "when"], None, "3.fixed.when: field required"),
    ],
)
def test_a_claim_that_says_something_wrong_is_refused_in_one_sentence(path, value, sentence):
    with pytest.raises(ValueError, match=rf"^claims\.yaml, {re.escape(sentence)}[^\n]*$"):
        paper.checked_claims(changed([*paper.claims()], path, value))


def test_suites_have_each_experiment_once_but_for_those_on_the_same_images():
    entries = [entry for name, suite in read_suites().items() if name != "same-images" for entry in suite]
    assert all(entry not in entries[:i] for i, entry in enumerate(entries))


def test_an_unknown_suite_is_refused_by_name():
    with pytest.raises(ValueError, match=r"suites must be among curves-none, .*; got 'curve'$"):
        Parameters().experiments(["curves-pr", "curve"])


def test_a_profile_can_give_suites_seeds_of_their_own(monkeypatch):
    more = {"suites": ["curves-pr", "steps-pr"], "datasets": ["mnist"], "seeds": [1, 2]}
    written(monkeypatch, "published", ["experiments"], [{"suites": ["curves-pr"]}, more])
    profile = read_profile.__wrapped__("published")
    monkeypatch.setattr("prlib.profiles.read_profile", lambda name: profile)
    found = [(e.training.dataset, e.training.seed, bool(e.attacks)) for e in Parameters("published").experiments()]
    clean = [(dataset, 0, False) for dataset in profile.datasets]
    own = [("mnist", seed, attacked) for attacked in (False, True) for seed in (1, 2)]
    assert found == [*clean[:1], *own, *clean[1:]]
    overridden = {e.training.seed for e in Parameters("published", seeds=[7]).experiments()}
    assert overridden == {7}


def test_unknown_parameters_are_refused_by_name():
    with pytest.raises(ValueError, match="'eps'"):
        check_names({"profile": "sample", "eps": 0.3})


def test_overridden_runs_are_custom_and_have_a_store_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    assert not Parameters(datasets=["mnist"]).custom
    custom = Parameters("published", n_test=1000, epochs=[50])
    assert custom.custom and custom.store.root.name == "custom"
    beside = [custom.store.beside.root, custom.store.beside.beside.root]
    assert beside == [tmp_path / "published", ROOT / "results" / "published"]
    assert len(set(custom.experiments())) == len(custom.experiments()) < len(Parameters("published").experiments())


def test_another_epsilon_is_in_the_name_and_the_options_of_every_attack_that_has_one():
    papers, ours = Parameters("published", ["mnist"]), Parameters("published", ["mnist"], epsilon=0.2)
    assert not papers.custom and ours.custom
    papers, ours = papers.experiments(), ours.experiments()
    kept = [e for e in papers if "adaptive" in e.cases or not any(a.kind.bounded for a in e.attacks)]
    assert [e for e in ours if e in papers] == kept
    for before, after in zip([e for e in papers if e not in kept], [e for e in ours if e not in kept], strict=True):
        assert (after.training, after.epochs, after.n_test) == (before.training, before.epochs, before.n_test)
        assert [labelled(a.name, a.epsilon) for a in after.attacks] == [f"{a.name}@0.2" for a in before.attacks]
        for attack, other in zip(before.attacks, after.attacks, strict=True):
            had, has = dict(attack.options), dict(other.options)
            assert has["epsilon"] == 0.2 and had["epsilon"] == 0.3
            if "quarter" in attack.name:
                assert (has["step_size"], had["step_size"]) == pytest.approx((0.05, 0.075))
            else:  # steps that do not follow ε
                assert has.get("step_size") == had.get("step_size")


@pytest.mark.parametrize("given", [{}, {"n_test": 100, "epochs": [50]}, {"epsilon": 0.1}, {"epsilon": 1}])
@pytest.mark.slow
def test_the_command_that_measures_a_record_again_names_it_and_no_other(given, monkeypatch, capsys):
    monkeypatch.setattr(Parameters, "experiments", functools.cache(Parameters.experiments))  # most ask for the same
    experiments = Parameters("published", ["mnist"], **given).experiments()
    for experiment in experiments:
        _, _, arguments = recompute_command(experiment).partition("prlib run ")
        assert main(["list", "--names", *arguments.split()]) == 0, arguments
        assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [experiment.name]


def test_names_fit_any_file_system():
    for profile in PROFILES:
        for epsilon in (None, 0.123456789):
            names = [e.name for e in Parameters(profile, epsilon=epsilon).experiments()]
            assert len(set(names)) == len(names) and max(map(len, names)) <= 255 - len("..json.partial")


@pytest.mark.parametrize("path", ["README.md", "book/rerun.ipynb"])
def test_the_commands_of_the_readme_and_the_book_name_experiments_that_there_are(path, capsys):
    commands = re.findall(r"python -m prlib (?:run|list|show|verify) ([^#\n`\\]*)", (ROOT / path).read_text())
    commands = [c for c in commands if c.strip()]
    assert commands
    for arguments in commands:
        assert main(["list", "--names", *arguments.split()]) == 0, arguments
    capsys.readouterr()


def test_what_another_experiment_measures_too_is_not_measured_again_for_a_chapter():
    parameters = Parameters("published", ["mnist"], n_test=1000)  # the paper's attacks are twice on 1,000 images
    suites = ["curves-pr", "steps-pr", "cw-pr", "attack-readings", "case-readings"]
    wanted = parameters.experiments(suites)
    assert any(e.training.defence.name == "pr" and e not in wanted for e in parameters.experiments(["same-images"]))
    judged = [(e.attacks, e.tested_with, case) for e in wanted for case in e.cases]
    assert len(set(judged)) == len(judged)
    assert {case for _, _, case in judged} == {"A", "B", "C", "A twice", "C twice"}


@pytest.mark.slow
def test_a_custom_run_trains_nothing_that_its_profile_has_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    sizes = {"n_train": 130, "n_test": 100, "epochs": (1,)}

    def experiments(parameters):
        chosen = [e for e in parameters.experiments() if e.training.defence.name == "pr"]
        return chosen[0], next(e for e in chosen if [a.name[:3] for a in e.attacks] == ["fgs", "bim", "mim"])

    plain = Parameters("sample", ["mnist"], **sizes)
    profiles = Store(tmp_path / "sample")
    clean, attacked = (run(e, quiet(profiles)) for e in experiments(plain))
    before = {path: path.stat().st_mtime_ns for path in profiles.root.rglob("*") if path.name != ".lock"}

    custom = Parameters("sample", ["mnist"], **sizes, epsilon=0.125)
    monkeypatch.setattr("prlib.train.Trainer.advance", None)  # whoever trains fails
    capsys.readouterr()
    again, other = (run(e, Context(custom.store, progress="lines")) for e in experiments(custom))
    shown = re.findall(r"^(\w+)@0.125, epoch 1: ", capsys.readouterr().err, re.MULTILINE)
    assert list(dict.fromkeys(shown)) == ["fgsm", "bim", "mim"]  # a slow one is shown again
    assert again == clean and not custom.store.record_path(again.experiment).exists()
    assert custom.store.record_path(other.experiment).exists()
    assert [round(c.attacked, 6) for c in other.cells if (c.attack, c.epsilon, c.case) == ("fgsm", 0.125, "B")] == [
        0.125
    ]
    assert {c.attacked for c in other.cells}.isdisjoint({c.attacked for c in attacked.cells})
    assert verify(again, quiet(custom.store), n=100) == (200, 200)
    assert before == {path: path.stat().st_mtime_ns for path in profiles.root.rglob("*") if path.name != ".lock"}
    plan = describe_plan(custom, experiments(dataclasses.replace(custom, epsilon=0.25)))
    assert "1 to do" in plan and "; 0 MB" in plan  # no weights
    anew = Parameters("sample", ["mnist"], **sizes, epsilon=0.125, recompute=True)
    assert anew.store.load(again.experiment) is None
    lent = Parameters("sample", ["mnist"], epsilon=0.125, recompute=True)  # which trains no published network anew
    stored = next(e for e in lent.experiments() if e.embedded)
    assert lent.store.snapshot(stored.training, 50).is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--datasets", "svhn"], "'svhn'"),
        (["run", "--epsilon", "2"], "2.0"),
        (["run", "nothing-like-this"], "nothing-like-this"),
        (["run", "--device", "cuda:99", "--datasets", "mnist"], "cuda:99"),
        (["run", "--n-train", "99999", "--datasets", "mnist"], "99999"),
        (["show"], "no record"),
        (["verify", "--least", "nan"], "--least must be a share from 0 to 1; got nan"),
        (["verify", "--least", "-1"], "got -1"),
        (["verify", "--least", "99.5"], "got 99.5"),
        (["verify", "--images", "0"], "--images must be a positive integer; got 0"),
    ],
)
def test_the_command_line_refuses_bad_input_in_one_sentence(arguments, named, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert named in message and message.count("\n") == 1 and "Traceback" not in message
    assert not list(tmp_path.rglob("*.json"))


def test_the_command_line_runs_lists_shows_and_verifies(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    chosen = ["mnist-sample130-none-s0-e1-clean", "--n-train", "130", "--n-test", "100", "--epochs", "1"]
    assert main(["list", "--names", *chosen]) == 0
    assert capsys.readouterr().out.startswith("to-do mnist-sample130-none")
    assert main(["run", *chosen, "--progress", "none"]) == 0
    capsys.readouterr()
    assert main(["list", *chosen]) == 0
    assert "1 experiments, 0 to do" in capsys.readouterr().out
    assert main(["show", "--json", *chosen]) == 0
    (saved,) = (tmp_path / "custom" / "records").glob("*.json")
    assert json.loads(capsys.readouterr().out) == json.loads(saved.read_text())
    assert main(["verify", *chosen, "--images", "100"]) == 0
    assert "300 of 300" in capsys.readouterr().out
    others = ["mnist-sample130-noise-s0-e1-clean", *chosen[1:]]
    assert main(["run", *others, "--progress", "none"]) == 0
    damaged = next((tmp_path / "custom" / "records").glob("*-noise-*.json"))
    damaged.write_text(damaged.read_text().replace('"correct": ', '"correct": 9'))
    capsys.readouterr()
    for command in ("show", "verify"):
        assert main([command, "mnist-sample130-no", *chosen[1:]]) == 1
        shown = capsys.readouterr()
        assert saved.stem in shown.out and shown.err.count("\n") == 1 and str(damaged) in shown.err
    assert main(["run", *others, "--progress", "none", "--recompute"]) == 0
    assert main(["show", "mnist-sample130-no", *chosen[1:]]) == 0
    capsys.readouterr()
    (tmp_path / "custom" / "weights").rename(tmp_path / "gone")
    assert main(["verify", *chosen, "--images", "100"]) == 2
    assert "no weights are in" in capsys.readouterr().err


def test_what_verify_lacks_is_named_before_anything_is_judged(tmp_path, monkeypatch, capsys):
    """Of several datasets all images are looked for first, the test images alone."""
    asked = []

    def partly(name, split, root):
        asked.append((name, split))
        if name == "cifar10":
            raise ConnectionError("wrong lacks cifar-10-batches-bin/test_batch.bin")
        return load(name, split, root)

    chosen = [f"{name}-sample20-none-s0-e1-clean" for name in ("mnist", "cifar10")]
    chosen += ["--n-train", "20", "--n-test", "20", "--epochs", "1"]
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    assert main(["run", *chosen, "--progress", "none"]) == 0
    capsys.readouterr()
    monkeypatch.setattr("prlib.chosen.load", partly)
    monkeypatch.setattr("prlib.command_line.verify", lambda *_: pytest.fail("it judges"))
    assert main(["verify", *chosen, "--data", "wrong"]) == 2
    assert capsys.readouterr() == ("", "prlib: wrong lacks cifar-10-batches-bin/test_batch.bin\n")
    assert asked == [("mnist", "test"), ("cifar10", "test")]


def test_a_store_that_cannot_be_written_is_refused_before_any_compute(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="folder that can be written to"):
        run(tiny(), quiet(Store(tmp_path / "file")))


def test_unknown_defences_and_sizes_are_refused():
    with pytest.raises(ValueError, match="'adversarial-pgd' is one of training alone"):
        dataclasses.replace(tiny(), tested_with=(default_defence("adversarial-pgd", "mnist"),))
    with pytest.raises(ValueError, match="'magic'"):
        Defence("magic")
    with pytest.raises(ValueError, match="0"):
        tiny(n_train=0)


def test_core_hours_count_a_training_once(record):
    """A training of ten hours, in the first record's run: its two records took 12 and 3 hours, so 15 in all."""

    def took(total, finished, seed=0, **changed):
        training = dataclasses.replace(record.experiment.training, seed=seed)
        provenance = {"seconds": {"training": 36_000, "total": 3600 * total}, "finished": finished}
        experiment = dataclasses.replace(record.experiment, training=training, **changed)
        return dataclasses.replace(record, experiment=experiment, provenance=record.provenance | provenance)

    told = pages.core_hours([took(3, "2026-02"), took(12, "2026-01")]).data
    assert "about 15 core-hours. Training the 1 networks took 10 of them" in told
    attacked = {"attacks": (default_attack("fgsm", "mnist"),), "cases": ("B",)}  # by a network that was there
    told = pages.core_hours([took(3, "2026-02"), took(12, "2026-01"), took(1, "2026-03", 1, **attacked)]).data
    assert "about 26 core-hours. Training the 2 networks took 20 of them" in told and told.endswith(f"{record.device}.")
    # Interrupted: the first record's run took but the last four of the ten hours.
    told = pages.core_hours([took(3, "2026-02"), took(4, "2026-01")]).data
    assert "about 13 core-hours. Training the 1 networks took 10 of them" in told


def test_costs_count_the_layers_operations(record):
    seconds = {"training": 2.0, "total": 3.0}
    row = pages.costs([dataclasses.replace(record, provenance=record.provenance | {"seconds": seconds})]).text().iloc[0]
    images = record.experiment.training.n_train * 2
    assert row["images/s"] == f"{images / 2:,.0f}"
    # a multiplication and an addition each: 14² × 64 × 8², 5² × 128 × 6² × 64, 128 × 5² × 128 and 128 × 10
    forward = 2 * (14**2 * 64 * 64 + 25 * 128 * 36 * 64 + 128 * 25 * 128 + 1280)
    assert row["GFLOP/s"] == f"{images * 3 * forward / 2.0 / 1e9:.0f}"


def test_benchmarks_are_shown_with_their_machine_or_said_to_be_missing(monkeypatch, tmp_path):
    shown = pages.benchmark("steps").data
    assert all(peer in shown for peer in ("foolbox", "torchattacks")) and "cores" in shown
    monkeypatch.setattr("prlib.pages.facts.BENCHMARKS", tmp_path / "none.json")
    assert "has not been run" in pages.benchmark("cw").data


def test_published_weights_have_their_digests_and_a_training():
    root = ROOT / "results" / "published" / "weights"
    digests = dict(line.split()[::-1] for line in (root / "SHA256SUMS").read_text().splitlines())
    committed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    assert set(digests) == {path for path in committed if path.endswith(".safetensors")}
    trainings = {e.training.name for e in Parameters("published").experiments()}
    for name, digest in digests.items():
        assert hashlib.sha256((root / name).read_bytes()).hexdigest() == digest
        assert name.split("/")[0] in trainings
