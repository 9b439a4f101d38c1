"""Which images a record was judged on: parts of a test set drawn at random, and their places from labels alone."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import ROOT, brief

from prlib.chosen import Chosen
from prlib.data import load, missing
from prlib.experiment import Experiment, Training, key, to_json
from prlib.findings.cells import measured
from prlib.profiles import PROFILES, Parameters, default_attack, default_defence, default_recipe
from prlib.record import parse_record
from prlib.run import Context, run
from prlib.store import Store


def tiny(**more):
    training = Training("mnist", "sample", 130, default_defence("none", "mnist"), default_recipe("mnist"), 0)
    return Experiment(training, (default_defence("none", "mnist"),), (1,), **more)


@pytest.mark.parametrize(("n", "drawn"), [(20, None), (20, 7), (250, 7), (500, None)])
def test_places_are_those_of_the_images_that_are_judged(n, drawn):
    split = load("mnist", "test", "sample")
    places = torch.from_numpy(Chosen.of(tiny(n_test=n, drawn=drawn)).places())
    assert torch.equal(split.images[places], split.take(n, drawn).images)
    counts = split.labels[places].bincount(minlength=10)
    assert len(set(places.tolist())) == n and counts.max() - counts.min() <= 1


def test_a_part_is_drawn_from_all_of_the_test_set():
    # Of 20 images of 500 the first 20 of each class's order are none but by chance: the last place is rarely below 250.
    first, drawn = (Chosen.of(tiny(n_test=20, drawn=seed)).places() for seed in (None, 7))
    assert first.max() < 60 and drawn.max() > 250
    assert Chosen.of(tiny(n_test=20, drawn=8)).places().tolist() != drawn.tolist()


@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist", "cifar10"])
def test_the_committed_labels_are_the_test_sets(dataset):
    if missing(dataset, "test"):
        pytest.skip(f"the full {dataset} is not on this machine")
    labels = json.loads((ROOT / "prlib" / "sample" / "test-labels.json").read_text())[dataset]
    assert labels == "".join(map(str, load(dataset, "test").labels.tolist()))


def test_what_an_experiment_of_before_does_not_say_changes_no_key():
    plain, drawn = tiny(n_test=20), tiny(n_test=20, drawn=7)
    assert "drawn" not in to_json(plain) and "split" not in to_json(plain) and to_json(drawn)["drawn"] == 7
    assert key(plain) != key(drawn) and key(plain.training) == key(drawn.training)


def test_a_record_says_which_images_it_was_judged_on(tmp_path):
    context = Context(Store(tmp_path), progress="none")
    drawn, own = run(tiny(n_test=20, drawn=7), context), run(tiny(n_test=130, split="train"), context)
    split = load("mnist", "test", "sample").take(20, 7)
    assert drawn.provenance["digests"]["test"] == split.digest
    path = context.store.record_path(drawn.experiment)
    assert parse_record(path.read_bytes(), path) == drawn and json.loads(path.read_text())["experiment"]["drawn"] == 7
    assert list(own.provenance["digests"]) == ["train"] and own.cells[0].total == 130
    assert "clean-train" in own.experiment.name


def test_more_training_images_are_judged_than_there_are_test_images(tmp_path):
    experiment = tiny(n_test=130)
    training = dataclasses.replace(experiment.training, n_train=600)
    experiment = dataclasses.replace(experiment, training=training, n_test=600, split="train")
    assert len(load("mnist", "test", "sample")) < 600
    assert run(experiment, Context(Store(tmp_path), progress="none")).cells[0].total == 600


@pytest.mark.parametrize("more", [{"n_test": 20, "split": "train"}, {"n_test": 130, "split": "train", "drawn": 1}])
def test_training_images_are_judged_all_or_not(more):
    with pytest.raises(ValueError, match="130 training images are judged all or not"):
        tiny(**more)


@pytest.mark.parametrize("profile", PROFILES)
def test_parts_are_drawn_unless_a_profile_takes_the_first_as_its_records_did(profile):
    experiments = [e for e in Parameters(profile).experiments() if e.split == "test"]
    sizes = {"sample": 500}
    parts = [e for e in experiments if e.n_test < sizes.get(profile, 10_000)]
    assert parts and all(e.drawn is None for e in experiments if e not in parts)
    committed = {path.stem for path in ROOT.glob(f"results/{profile}/records/*.json")}
    assert all(e.drawn is not None or e.name in committed or profile == "tenth" for e in parts)
    overridden = Parameters(profile, n_test=100).experiments()
    assert {e.drawn is None for e in overridden if e.split == "test"} == {False}


def test_grayscale_and_colour_are_the_same_images():
    experiment = tiny(n_test=20)
    gray = dataclasses.replace(experiment, training=dataclasses.replace(experiment.training, dataset="cifar10-gray"))
    colour = dataclasses.replace(experiment, training=dataclasses.replace(experiment.training, dataset="cifar10"))
    assert Chosen.of(gray) == Chosen.of(colour)


@pytest.mark.slow
def test_a_random_defence_can_answer_several_times(tmp_path):
    """Of 60 images 40 answers each; a share p of an image's answers is right, and the first is right as often."""
    redraw = default_defence("pr", "mnist")
    attacks = (brief(default_attack("mean-pgd", "mnist")),)
    experiment = dataclasses.replace(
        tiny(n_test=60, drawn=7), tested_with=(redraw,), attacks=attacks, cases=("adaptive",), draws=40
    )
    context = Context(Store(tmp_path), progress="none")
    record = run(experiment, context)
    path = context.store.record_path(experiment)
    assert parse_record(path.read_bytes(), path) == record
    for cell in record.cells:
        shares = np.frombuffer(bytes.fromhex(cell.often), np.uint8) / 40
        assert len(shares) == 60 and 0 < shares.mean() < 1
        # The first answers are one more draw of the same probabilities: five standard deviations, once in a million.
        assert abs(cell.correct - shares.sum()) < 5 * np.sqrt((shares * (1 - shares)).sum() + 1)
    (row,) = measured([record]).query("attack == 'mean-pgd'").itertuples()
    assert row.ours.value == pytest.approx(np.frombuffer(bytes.fromhex(record.cells[0].often), np.uint8).mean() / 40)
    damaged = path.read_text().replace('"draws": 40', '"draws": 3')
    with pytest.raises(ValueError, match="draws"):
        parse_record(damaged.encode(), path.with_name(f"{dataclasses.replace(experiment, draws=3).name}.json"))
    with pytest.raises(ValueError, match="draws must be 1, or up to 65535 in case normal or adaptive; got 2"):
        tiny(n_test=20, draws=2, attacks=(default_attack("fgsm", "mnist"),), cases=("A",))
    for draws in (0, 65_536, 2.5, "3"):
        with pytest.raises(ValueError, match=f"draws must be 1, or up to 65535 .* got {draws!r}"):
            tiny(n_test=20, draws=draws)
