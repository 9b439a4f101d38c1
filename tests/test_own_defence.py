"""A defence of one's own: what is found out of it, and the command that puts it beside the book's."""

import json
import random
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import avg_pool2d

from prlib.attacks import crossing, eot_pgd, robust_probability
from prlib.attacks.known import Known, is_random, staircase_of, voting
from prlib.chosen import Chosen
from prlib.command_line import main
from prlib.data import to_float
from prlib.own.book import book_rows, records_of, shared_images, strongest_cells
from prlib.own.file import read
from prlib.own.measure import suite
from prlib.pages.names import defence_title
from prlib.profiles.protocol import read_protocol
from prlib.record import read_record, unpack
from prlib.redraw import PixelRedraw, Quantised
from prlib.rivals import smoothed

ONE = PixelRedraw.fit(steps=500)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=6, size=8):
    return torch.rand(n, 1, size, size, generator=seeded(1))


def noise(x, generator):
    return (x + torch.randn(x.shape, generator=generator) / 2).clamp(0, 1)


def cornered(x, generator):
    """Not by pixels alone: black where the neighbours are dark, and no gradient."""
    return (avg_pool2d(x, 3, 1, 1) > 0.5).to(x.dtype)


def three_bits(x, generator):
    return (x * 7).round() / 7


FOUND = {  # random, differentiable, cells (0: no staircase)
    "as it is": (lambda x, g: x, False, True, 0),
    "inverted": (lambda x, g: 1 - x, False, True, 0),
    "smooth": (lambda x, g: avg_pool2d(x, 3, 1, 1), False, True, 0),
    "noise": (noise, True, True, 0),
    "threshold": (lambda x, g: (x > 0.5).to(x.dtype), False, False, 2),
    "three bits": (three_bits, False, False, 8),
    "cornered": (cornered, False, False, 0),
    "random threshold": (lambda x, g: (x > torch.rand(x.shape, generator=g)).to(x.dtype), True, False, 0),
    "redraw": (ONE, True, False, 3),
    "quantised": (Quantised(ONE), False, False, 3),
    "one of many models": (
        PixelRedraw.fit(k=3, steps=(50, 90), init="normal", choice="image"),
        True,
        False,
        0,
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_a_defence_is_is_found_out(name):
    transform, random, differentiable, cells = FOUND[name]
    known = Known.of(transform, images())
    assert (known.random, known.differentiable) == (random, differentiable)
    assert (len(known.staircase.mean) if known.staircase else 0) == cells
    assert is_random(known) == random
    assert ("random" in known.described) and ("not random" in known.described) != random


def test_a_probed_staircase_is_exact():
    """Against the defence itself on every float beside its edges, and on a million others."""
    stairs = staircase_of(Known.of(three_bits, images()))
    edges = stairs.edges.float()
    above = edges.nextafter(torch.ones(()))
    pixels = torch.cat([edges, above, torch.rand(1_000_000, generator=seeded(4))])[None, None, None]
    assert torch.equal(stairs.mean[stairs.cells(pixels)].float(), three_bits(pixels, None))
    assert torch.allclose(stairs.edges, (torch.arange(7) + 0.5).double() / 7, atol=1e-6)
    assert (stairs.distance == 1 - torch.eye(8)).all()


def counted():
    calls = iter(range(1000))
    return lambda x, g: (x + next(calls) / 1000).clamp(0, 1)


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (lambda x, g: x[:, :, 1:], r"must return images as it was given.*\(10, 1, 7, 8\)"),
        (lambda x, g: x.double(), "float64"),
        (lambda x, g: 2 * x - 0.5, r"\[0, 1\] without NaN; got values from -0.5 to 1.5"),
        (lambda x, g: x / x, "without NaN"),
        (lambda x, g: (x + torch.rand(x.shape)) / 2, "hidden state"),
        (counted(), "hidden state"),
        (lambda x, g: x / x.max() if x.max() > 0 else x, "by itself"),
    ],
    ids=["shape", "type", "range", "NaN", "global numbers", "counting", "batch"],
)
def test_what_is_no_defence_is_said(transform, said):
    clean = images(4) / 2 if said == "by itself" else images(4)
    with pytest.raises(ValueError, match=said):
        Known.of(transform, clean)


class Linear(nn.Module):
    """Two classes, their logits' difference linear in the pixels."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        score = x.flatten(1) @ self.weight
        return torch.stack([score, -score], 1)


def test_a_differentiable_defence_is_attacked_through_its_own_gradient():
    """Behind an inversion the straight step goes the wrong way; the best attack on a linear network is known."""
    weight, clean = torch.randn(64, generator=seeded(3)), 0.3 + 0.4 * images(20)
    network, defence = Linear(weight), lambda x, g: 1 - x
    labels = network(1 - clean).argmax(1)
    best = (clean + 0.1 * (weight * (1 - 2 * labels[:, None])).sign().view_as(clean)).clamp(0, 1)
    attack = partial(eot_pgd, network, clean, labels, epsilon=0.1, step_size=0.05, steps=10)
    found = attack(defence=Known.of(defence, clean), generator=seeded())
    assert torch.allclose(found, best, atol=1e-6)
    astray = attack(defence=defence, generator=seeded())
    assert not torch.allclose(astray, best, atol=0.05)


def test_a_gradient_that_misleads_is_stepped_over():
    """Behind a ripple that hides the way the straight step finds the best attack on a linear network."""
    weight, clean = torch.randn(64, generator=seeded(3)), 0.3 + 0.4 * images(20)
    network, labels = Linear(weight), torch.zeros(20, dtype=torch.int64)
    known = Known.of(lambda x, g: (x + 0.004 * (2000 * x).sin()).clamp(0, 1), clean)
    assert known.differentiable
    attack = partial(eot_pgd, network, clean, labels, epsilon=0.1, step_size=0.05, steps=10, defence=known)
    best = (clean - 0.1 * weight.sign().view_as(clean[0])).clamp(0, 1)
    assert torch.allclose(attack(straight=True, generator=seeded()), best, atol=1e-6)
    assert (attack(generator=seeded()) - best).abs().mean() > 0.05
    assert "eot-pgd-straight" in [a.name for a in suite(replace(known, random=True), "mnist")]
    assert "pgd-straight" in [a.name for a in suite(known, "mnist")]
    with pytest.raises(ValueError, match="'eot-pgd-own' needs a defence with a gradient"):
        suite(Known.of(cornered, clean), "mnist", names=["eot-pgd-own"])


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_defence_that_seldom_changes_an_image_is_random(share):
    assert Known.of(lambda x, g: x * (torch.rand((), generator=g) > share), images()).random


def test_a_vote_is_attacked_by_draws_and_answers_by_the_vote():
    known = Known.of(smoothed(0.5, 25), images())
    assert known.random and known.differentiable and "a vote of 25" in known.described
    draws_once, votes = voting(known)
    assert votes == 25
    assert torch.equal(draws_once(images(), seeded(5)), smoothed(0.5, 25)(images(), seeded(5)))


def test_a_threshold_is_crossed_where_that_pays():
    """The worst image of a linear network behind a threshold: every pixel that can cross does so if that hurts."""
    weight, clean = torch.randn(64, generator=seeded(3)), images(20)
    network, known = Linear(weight), Known.of(lambda x, g: (x > 0.5).to(x.dtype), clean)
    labels = torch.arange(20) % 2
    found = crossing(network, clean, labels, epsilon=0.2, defence=known, generator=seeded(), loss="margin")
    hurts = (weight * (2 * labels[:, None] - 1)).view_as(clean) > 0  # being white, that is
    reach = (clean + 0.2 > 0.5) & (clean - 0.2 <= 0.5)
    best = torch.where(reach, hurts.float(), (clean > 0.5).float())
    assert torch.equal((found > 0.5).float(), best)
    assert (found - clean).abs().max() <= 0.2 + 1e-6


def test_what_is_not_random_is_asked_once():
    calls = []
    defence = Known.of(lambda x, g: calls.append(1) or x, images())
    calls.clear()
    labels = torch.zeros(6, dtype=torch.int64)
    rates = robust_probability(Linear(torch.ones(64)), images(), labels, draws=40, generator=seeded(), defence=defence)
    assert len(calls) == 1 and set(rates.tolist()) <= {0.0, 1.0}


# The command.

THRESHOLD = """
def defence(images, generator):
    return (images > 0.5).to(images.dtype)
"""
LINEAR = """
import torch
from torch import nn

network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
with torch.no_grad():
    network[1].weight.copy_(torch.randn(10, 784, generator=torch.Generator().manual_seed(0)) / 28)
    network[1].bias.zero_()
"""


def test_what_a_file_draws_when_it_is_read_is_always_the_same(tmp_path):
    (tmp_path / "mine.py").write_text(THRESHOLD + "from torch import nn\nnetwork = nn.Linear(3, 2)\n")
    state = torch.get_rng_state()
    first, again = (read(tmp_path / "mine.py").network.weight for _ in range(2))
    assert torch.equal(first, again) and torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def attack(tmp_path, monkeypatch, capsys):
    """Run the command on a file with this text; its status, what it printed and said, and the result."""
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path / "results"))

    def run(text, *options, dataset="mnist", name="mine"):
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        offline = ["--embedded", "--images", "12", "--progress", "none"]
        status = main(["attack", str(file), "--dataset", dataset, *offline, *options])
        said = capsys.readouterr()
        result = tmp_path / "results" / "own" / f"{name}-{dataset}.json"
        return status, said.out, said.err, json.loads(result.read_text()) if result.exists() else None

    return run


def test_the_command_attacks_and_compares_on_the_same_images(attack):
    status, out, err, result = attack(THRESHOLD + LINEAR, "--attacks", "crossing-margin", "pgd-leap")
    assert (status, err) == (0, "")
    assert "sorts pixels into 2 cells" in out and "12 test images, 2 attacks, ε = 0.3: about" in out
    rates = {name: np.array(values) for name, values in result["right"].items()}
    assert list(rates) == ["none", "crossing-margin", "pgd-leap", "strongest"]
    assert (rates["strongest"] == np.minimum(rates["crossing-margin"], rates["pgd-leap"]).clip(max=rates["none"])).all()

    # the images are the test set's, and what the network says of them without an attack is what is recorded
    places = np.array(result["places"])
    cells = strongest_cells(records_of("mnist"))
    split, again = shared_images("mnist", cells, 12, True, None)
    assert (places == again).all()
    names: dict = {}
    exec(LINEAR, names)
    pixels = (to_float(split.images) > 0.5).float()
    right = (names["network"](pixels).argmax(1) == split.labels).double().numpy()
    assert (rates["none"] == right).all()

    # a record's own bits, read by hand
    for row in result["book"]:
        record = read_record(ROOT / "results" / "published" / "records" / f"{row['record']}.json")
        cell = next(c for c in record.cells if c.attack == "strongest")
        bits = unpack(cell.success, cell.total).numpy()
        if cell.often:  # of several draws, one byte an image says how often it was right
            bits = np.frombuffer(bytes.fromhex(cell.often), np.uint8) / record.experiment.draws
        labels = json.loads((ROOT / "prlib/sample/test-labels.json").read_text())["mnist"]
        first = [i for i, _ in _first_of_each_class(labels, record.experiment.n_test)]
        theirs = np.array([bits[first.index(place)] for place in places])
        assert row["n"] == 12 and row["theirs"] == pytest.approx(theirs.mean())
        # Wald+2's centre is drawn to 0, the value is the difference itself
        assert row["difference"]["value"] == pytest.approx((rates["strongest"] - theirs).mean())
        assert defence_title(row["defence"]) in out
    assert len(result["book"]) >= 8


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_the_book_is_compared_on_all_images_that_a_record_of_it_has(dataset):
    cells = strongest_cells(records_of(dataset))
    places = np.sort(Chosen("full", dataset, 100, read_protocol()["drawn"]).places())
    rows = book_rows(cells, places, np.ones(len(places)))
    most = {}
    for cell in cells.itertuples():
        n = np.isin(places, cell.trainings[0].after.images.places()).sum()
        most[cell.defence, cell.phase] = max(n, most.get((cell.defence, cell.phase), 0))
    assert {(row.defence, row.phase): row.n for row in rows} == {key: n for key, n in most.items() if n >= 50}
    assert sum(row.n == len(places) for row in rows) >= 10 and min(most.values()) < 50
    (both,) = (row for row in rows if (row.defence, row.phase) == ("pr", "both"))
    same = cells[(cells.defence == "pr") & (cells.phase == "both")].itertuples()
    held = [cell.of for cell in same if np.isin(places, cell.trainings[0].after.images.places()).all()]
    assert len(held) > 1 and both.of == max(held)


def test_the_papers_epsilon_may_be_named(attack):
    options = "--images", "2", "--attacks", "transfer"
    plain, named = (attack(THRESHOLD + LINEAR, *options, *more)[3] for more in ((), ("--epsilon", "0.3")))
    assert plain["book"] == named["book"] != []


def test_what_a_transfer_needs_is_asked_for_before_anything_is_trained(attack, monkeypatch, tmp_path):
    monkeypatch.setattr("prlib.own.file.published", lambda dataset: {})
    text = THRESHOLD + "network = 'train'\n"
    status, _, err, result = attack(text, "--n-train", "260", "--epochs", "1", "--attacks", "transfer")
    assert status == 2 and result is None and not list(tmp_path.rglob("*.safetensors"))
    assert "'transfer' is made on the published undefended network" in err and "must be there" in err


@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist", "cifar10", "cifar10-gray"])
@pytest.mark.parametrize("n", [1, 12, 500])
def test_embedded_images_are_those_at_their_places_of_the_test_set(dataset, n):
    """By their labels, which the repository holds for the whole test set."""
    known = json.loads((ROOT / "prlib/sample/test-labels.json").read_text())[dataset.removesuffix("-gray")]
    split, places = shared_images(dataset, strongest_cells(records_of(dataset)), n, True, None)
    assert split.labels.tolist() == [int(known[place]) for place in places]
    assert (np.diff(places) > 0).all() and min(n, 10) <= len(split) <= n
    assert len(set(split.labels.tolist())) >= min(n, 5)


def _first_of_each_class(labels, n):
    seen = dict.fromkeys("0123456789", 0)
    kept = []
    for i, label in enumerate(labels):
        if seen[label] < n // 10:
            seen[label] += 1
            kept.append((i, label))
    return kept


def test_the_same_seed_gives_the_same_result(attack):
    noisy = """
import torch
def defence(images, generator):
    return (images + torch.randn(images.shape, generator=generator) / 4).clamp(0, 1)
"""
    first, again, other = (
        attack(noisy + LINEAR, "--attacks", "eot-pgd-1-draw", "--seed", seed)[3]["right"] for seed in ("1", "1", "2")
    )
    assert first == again and first != other
    assert any(0 < rate < 1 for rate in first["none"])


def test_a_network_is_trained_behind_the_defence_and_kept(attack, tmp_path):
    text = THRESHOLD + "network = 'train'\n"
    options = "--n-train", "260", "--epochs", "1", "--attacks", "transfer"
    _, out, _, first = attack(text, *options)
    assert "trained here behind the defence on 260 images, 1 epochs" in out
    (path,) = (tmp_path / "results" / "own" / "weights").glob("mine-mnist-*/epoch-0001.safetensors")
    before = path.stat().st_mtime_ns
    assert attack(text, *options)[3]["right"] == first["right"] and path.stat().st_mtime_ns == before
    weights = load_file(path)
    from prlib.snapshot import Snapshot

    save_file(weights, tmp_path / "copy.safetensors", Snapshot.read(path).metadata)
    _, out, _, third = attack(THRESHOLD + "network = 'copy.safetensors'\n", "--attacks", "transfer")
    assert "weights of copy.safetensors" in out and third["right"] == first["right"]


def test_a_published_network_is_taken_by_its_name(attack):
    _, out, _, result = attack(THRESHOLD + "network = 'pr'\n", "--images", "2", "--attacks", "transfer")
    assert "published, trained with pr" in out and result["accuracy"]["none"]["value"] == 1


def test_a_dataset_without_adaptive_records_says_so(attack):
    status, out, _, result = attack(
        THRESHOLD + LINEAR, "--images", "2", "--attacks", "pgd-leap", "--epsilon", "0.123", dataset="mnist"
    )
    assert status == 0 and result["book"] == [] and "no such record" in out and "ε = 0.123" in out


LATE = """
calls = 0
def defence(images, generator):
    global calls
    calls += len(images) == 12
    if calls > 50:
        raise RuntimeError("late")
    return images
"""
WRONG = [
    ("x = 1\n", (), "must hold a function defence(images, generator); got none"),
    ("defence = 3\n", (), "got int"),
    ("1 / 0\n", (), "must run as Python: ZeroDivisionError"),
    ("def defence(:\n", (), "SyntaxError"),
    (THRESHOLD + "network = 'nobody'\n", (), "network in"),
    (THRESHOLD + "network = 3\n", (), "got int"),
    (THRESHOLD + "network = lambda: 1 / 0\n", (), "network() must return a network; ZeroDivisionError"),
    ("def defence(images):\n    return images\n", (), "the defence failed on float images"),
    ("def defence(images, generator):\n    return images * 2\n", (), "must return images in [0, 1]"),
    (THRESHOLD + "import torch\nnetwork = torch.nn.Identity()\n", ("--attacks", "pgd-leap"), "logits"),
    (
        THRESHOLD + "import torch\nnetwork = torch.nn.Linear(3, 10)\n",
        (),
        "or its defence failed: RuntimeError: mat1 and",
    ),
    (THRESHOLD + LINEAR.replace("10", "5"), ("--attacks", "pgd-leap"), "the labels' classes; got torch.float32 of"),
    ("import sys\nsys.exit(0)\n", (), "must run as Python: SystemExit: 0"),
    ("def defence(images, generator):\n    raise SystemExit\n", (), "the defence failed on float images"),
    (LATE + LINEAR, ("--attacks", "pgd-leap"), "its network or its defence failed: RuntimeError: late"),
    (THRESHOLD + LINEAR, ("--attacks", "fgsm"), "attacks must be among eot-pgd, "),
    (THRESHOLD + LINEAR, ("--attacks", "mean-pgd"), "needs a redraw"),
    ("def defence(images, generator):\n    return images\n", ("--attacks", "crossing"), "sorts pixels into cells"),
    (THRESHOLD, ("--images", "0"), "--images must be a positive integer; got 0"),
    (THRESHOLD, ("--epsilon", "2"), "epsilon must be a number from 0 to 1; got 2.0"),
    (THRESHOLD, ("--epsilon", "0"), "--epsilon must be above 0; got 0"),
    (THRESHOLD, ("--seed", str(2**70)), f"seed must be an integer of 64 bits; got {2**70}"),
    (THRESHOLD, ("--out", "/proc/mine.json"), "/proc/mine.json cannot be written ("),
    (THRESHOLD, ("--out", "/"), "/ cannot be written: it is a folder"),
    (THRESHOLD, ("--dataset", "digits"), "--dataset must be one of mnist, "),
]


@pytest.mark.parametrize(("text", "options", "said"), WRONG, ids=[said for _, _, said in WRONG])
def test_what_is_wrong_is_said_in_a_sentence_before_anything_is_written(attack, tmp_path, text, options, said):
    status, _, err, result = attack(text, *options)
    assert (status, result) == (2, None)
    assert err.startswith("prlib: ") and err.count("\n") == 1 and said in err
    assert not (tmp_path / "results").exists()


def test_a_file_may_hold_dataclasses_and_leaves_pytorch_as_it_was(tmp_path):
    path = tmp_path / "random.py"  # no other module is replaced by it
    path.write_text(
        "from __future__ import annotations\nimport pickle\nfrom dataclasses import dataclass\nimport torch\n"
        "@dataclass\nclass Shift:\n    by: int = 0\n    def __call__(self, images, generator):\n        return images\n"
        "defence = pickle.loads(pickle.dumps(Shift()))\n"
        "torch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\n"
    )
    own = read(path)
    assert own.defence(1, None) == 1 and own.defence.by == 0
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert sys.modules["random"] is random


def test_a_file_that_is_not_there(capsys):
    assert main(["attack", "nowhere.py", "--dataset", "mnist"]) == 2
    assert "nowhere.py" in capsys.readouterr().err


def test_help_says_what_the_file_must_hold(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["attack", "--help"])
    out = capsys.readouterr().out
    assert "defence(images, generator)" in out and 'network = "train"' in out and "(default: 100)" in out
