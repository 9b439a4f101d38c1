"""The certificate for the quantised redraw, against every image that can be reached."""

import dataclasses
import itertools
import json

import pytest
import torch
from conftest import ROOT
from torch import nn

from prlib.attacks import Staircase, crossing
from prlib.attacks.base import margin
from prlib.attacks.certificate import FAILS, HOLDS, OPEN, certificate, least_margin
from prlib.cases import Batch
from prlib.chosen import images_of
from prlib.experiment import to_json
from prlib.findings.cells import measured
from prlib.model import PaperCNN
from prlib.pages.explorer import numbers
from prlib.pages.records import committed
from prlib.profiles import Parameters, default_attack, default_defence, published_snapshots
from prlib.record import parse_record, unpack
from prlib.redraw import PixelRedraw, Quantised
from prlib.run import Context, run
from prlib.snapshot import load_model
from prlib.store import Store

ONE = PixelRedraw.fit(steps=5000)
STAIRS = Staircase.of(ONE)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed):
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    net = nn.Sequential(*layers).requires_grad_(False)
    net[5].bias -= net(torch.rand(500, 1, 3, 3)).mean(0)  # so that no class has it all
    return net


def least_by_enumeration(net, image, label, epsilon):
    low, high = (cells.flatten().tolist() for cells in STAIRS.reach(image, epsilon))
    cells = torch.tensor(list(itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))
    shown = STAIRS.mean.float()[cells].view(-1, 1, 3, 3)
    return margin(net(shown), label.expand(len(shown))).min().item()


def test_it_says_of_every_image_what_enumeration_says():
    answers = []
    for seed in range(20):
        net, clean = network(seed), torch.rand(3, 1, 3, 3, generator=seeded(seed))
        labels = net(Quantised(ONE)(clean)).argmax(1)
        labels[2] = (labels[2] + 1) % 3  # wrong to begin with
        for epsilon in (0.02, 0.1, 0.2):
            found = certificate(net, clean, labels, stairs=STAIRS, epsilon=epsilon, boxes=5000)
            for image, label, answer in zip(clean.split(1), labels.split(1), found.tolist(), strict=True):
                least = least_by_enumeration(net, image, label, epsilon)
                assert answer == (HOLDS if least > 0 else FAILS)
                answers.append(answer)
    assert answers.count(HOLDS) > 20 and answers.count(FAILS) > 70


def test_with_few_boxes_it_leaves_open_what_it_does_not_know():
    net, clean = network(3), torch.rand(30, 1, 3, 3, generator=seeded(9))
    labels = net(Quantised(ONE)(clean)).argmax(1)
    few, many = (certificate(net, clean, labels, stairs=STAIRS, epsilon=0.15, boxes=n) for n in (1, 5000))
    assert (few[few != OPEN] == many[few != OPEN]).all() and OPEN in few and OPEN not in many


def test_no_attack_succeeds_where_it_holds():
    net, clean = network(5), torch.rand(40, 1, 3, 3, generator=seeded(2))
    labels = net(Quantised(ONE)(clean)).argmax(1)
    holds = certificate(net, clean, labels, stairs=STAIRS, epsilon=0.1) == HOLDS
    call = {"epsilon": 0.1, "defence": Quantised(ONE), "generator": seeded(), "loss": "margin", "restarts": 5}
    fooled = net(Quantised(ONE)(crossing(net, clean, labels, **call))).argmax(1) != labels
    assert holds.any() and fooled.any() and not (holds & fooled).any()


def test_bounds_of_the_papers_network_hold_and_are_exact_for_a_single_image():
    net = PaperCNN(1, 28).requires_grad_(False)
    low = torch.rand(4, 1, 28, 28, generator=seeded(1)) * 0.9
    high, labels = low + 0.01, torch.arange(4)
    bound = least_margin(net, low, high, labels)
    inside = low + (high - low) * torch.rand(50, 4, 1, 28, 28, generator=seeded(2))
    margins = torch.stack([margin(net(images), labels) for images in inside])
    assert (bound <= margins.amin(0) + 1e-5).all()
    assert torch.allclose(least_margin(net, low, low, labels), margin(net(low), labels), atol=1e-4)


def test_what_it_cannot_look_into_is_said():
    clean, labels = torch.rand(1, 1, 3, 3), torch.zeros(1, dtype=torch.int64)
    call = {"stairs": STAIRS, "epsilon": 0.1}
    with pytest.raises(ValueError, match="layers must be Conv2d, Linear, ReLU or Flatten; got Tanh"):
        certificate(nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(9, 3)), clean, labels, **call)
    with pytest.raises(ValueError, match="the last layer must be a Linear; got Flatten"):
        certificate(nn.Sequential(nn.Flatten()), clean, labels, **call)
    with pytest.raises(ValueError, match="boxes must be a positive integer"):
        certificate(network(0), clean, labels, **call, boxes=0)
    with pytest.raises(ValueError, match="a Conv2d must be padded with zeros; got padding_mode 'circular'"):
        around = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
        certificate(nn.Sequential(around, nn.Flatten(), nn.Linear(9, 3)), clean, labels, **call)
    with pytest.raises(ValueError, match="there must be at least one of the images"):
        certificate(network(0), clean[:0], labels[:0], **call)
    with pytest.raises(ValueError, match="with a K of at least 10, the labels' classes"):
        certificate(network(0), clean, labels + 9, **call)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_nothing_is_certified_of_numbers_that_are_not_finite(value):
    net, clean = network(0), torch.rand(2, 1, 3, 3, generator=seeded())
    net[5].weight.fill_(value)
    net[3].bias.fill_(9)  # the last weights meet something
    with pytest.raises(ValueError, match="the network's logits must be finite"):
        certificate(net, clean, torch.zeros(2, dtype=torch.int64), stairs=STAIRS, epsilon=0.1)


def test_images_of_any_type_are_certified_and_in_inference_mode():
    net, clean = network(5), torch.rand(5, 1, 3, 3, generator=seeded(2)).half().float()
    labels = net(Quantised(ONE)(clean)).argmax(1)
    expected = certificate(net, clean, labels, stairs=STAIRS, epsilon=0.125)
    assert HOLDS in expected
    for kind in (torch.float16, torch.float64):
        assert torch.equal(certificate(net, clean.to(kind), labels, stairs=STAIRS, epsilon=0.125), expected)
    with torch.inference_mode():
        assert torch.equal(certificate(net, clean + 0, labels + 0, stairs=STAIRS, epsilon=0.125), expected)


@pytest.fixture(scope="module")
def certified():
    records = [record for record in committed("published") if record.experiment.boxes]
    assert len(records) >= 5
    return records


def test_certified_is_at_most_what_any_attack_leaves_and_that_at_most_clean_image_by_image():
    """From the committed JSON alone."""
    paths = sorted((ROOT / "results" / "published" / "records").glob("*-certified-*.json"))
    assert paths
    shares = {}
    for path in paths:
        record = json.loads(path.read_text("utf-8"))
        kept = {cell["attack"].partition("@"): int(cell["success"], 16) for cell in record["cells"]}
        (of, _, epsilon) = next(key for key in kept if key[0] == "any")
        any_attack = kept.pop((of, "@", epsilon))
        assert len(kept) == 3 and all(any_attack & bits == any_attack for bits in kept.values())
        shares[float(epsilon)] = any_attack.bit_count() / record["experiment"]["n_test"]
    assert [shares[epsilon] for epsilon in sorted(shares)] == sorted(shares.values(), reverse=True)
    assert max(shares.values()) > 0.9


def test_the_strongest_attack_leaves_only_what_is_right_on_clean_images(certified):
    rows = measured(committed("published"))
    rows = rows[(rows.dataset == "mnist") & (rows.defence == "quantised") & (rows.phase == "both")]
    (clean,) = rows[(rows.attack == "") & (rows.epochs == max(certified[0].experiment.epochs))].trainings
    for record in certified:
        (left,) = rows[(rows.attack == "strongest") & (rows.epsilon == record.experiment.attacks[0].epsilon)].trainings
        places = left[0].after.images.places()
        assert (left[0].after.at(places) <= clean[0].after.at(places)).all()


def test_a_record_whose_attack_fools_a_certified_image_is_refused(certified):
    for record in certified:
        of = next(cell for cell in record.cells if cell.case == "certified")
        first = unpack(of.success, of.total).nonzero()[0].item()
        data = to_json(record)
        cell = data["cells"][0]
        bits = f"{int(cell['success'], 16):0{4 * len(cell['success'])}b}"
        bits = bits[:first] + "0" + bits[first + 1 :]
        cell |= {"success": f"{int(bits, 2):0{len(cell['success'])}x}", "correct": cell["correct"] - 1}
        content = json.dumps(data).encode()
        with pytest.raises(ValueError, match="fools 1 images of which is certified that none does"):
            parse_record(content, ROOT / f"{record.experiment.name}.json")


@pytest.mark.parametrize("field", ["l0", "l2", "linf", "attacked", "stuck"])
def test_a_certificate_with_distances_is_refused(certified, field):
    data = to_json(certified[0])
    next(cell for cell in data["cells"] if cell["case"] == "certified")[field] = 0.01
    with pytest.raises(ValueError, match="it has distances, and no image was attacked"):
        parse_record(json.dumps(data).encode(), ROOT / f"{certified[0].experiment.name}.json")


def test_what_is_certified_is_counted_as_no_attacks(certified):
    rows = measured(certified)
    assert set(zip(rows.attack, rows.case, strict=True)) == {
        ("any", "certified"),
        *((name, "adaptive") for name in ("crossing-starts", "pgd-leap", "strongest")),
    }
    assert set(rows.phase) == {"both"} and set(rows.of[rows.attack == "any"]) == {0}
    shown = {(row["attack"].partition(",")[0], row["case"]) for row in numbers({"": certified}) if row["record"]}
    assert ("any attack (certified)", "certified") in shown and len(shown) == 4


def test_a_run_certifies_what_the_certificate_says_of_its_images(certified, tmp_path, monkeypatch):
    monkeypatch.setattr("prlib.halfway.KEPT_SECONDS", 0.0)  # what is found of a batch can be written
    experiment = dataclasses.replace(certified[0].experiment, embedded=True, n_test=20, boxes=3)
    beside = Store(ROOT / "results" / "published")
    record = run(experiment, Context(Store(tmp_path, beside), progress="none"))
    split = images_of(experiment, "test")
    batch = Batch.of(split, 0, 0, "cpu")
    net = load_model(published_snapshots("mnist")["quantised"])
    stairs = Staircase.of(default_defence("quantised", "mnist").build().redraw)
    epsilon = dict(experiment.attacks[0].options)["epsilon"]
    found = certificate(net, batch.images, batch.labels, stairs=stairs, epsilon=epsilon, boxes=3)
    *attacked, of = record.cells
    assert (of.attack, of.case) == ("any", "certified") and len(attacked) == 3
    assert (unpack(of.success, 20) == (found == HOLDS)).all() and HOLDS in found
    assert parse_record(json.dumps(to_json(record)).encode(), tmp_path / f"{experiment.name}.json") == record


def test_only_what_is_not_random_and_bounded_is_certified(certified):
    experiment = certified[0].experiment
    assert "boxes" not in to_json(dataclasses.replace(experiment, boxes=0))
    for change in (
        {"tested_with": (default_defence("pr", "mnist"),)},
        {"attacks": (), "cases": ()},
        {"draws": 4},  # the certificate's cell would lack the counts
        {"attacks": tuple(default_attack("pgd-leap", "mnist", epsilon) for epsilon in (0.01, 0.05))},
    ):
        with pytest.raises(ValueError, match="boxes must be 0, unless attacks on quantised are adaptive, within one"):
            dataclasses.replace(experiment, **change)
    for boxes in (-1, 2.5, True, "3", 10**30, float("nan")):
        with pytest.raises(ValueError, match="boxes must be a positive integer up to"):
            dataclasses.replace(experiment, boxes=boxes)
    others = [e for e in Parameters("published").experiments() if e.boxes]
    assert {e.training.defence.name for e in others} == {"quantised"}


def test_bounds_are_tighter_than_intervals_where_a_sum_cancels():
    """One pixel x through x and -x: their sum is 0, which intervals do not know."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False), nn.Linear(2, 2, bias=True))
    net[1].weight.data = torch.tensor([[1.0], [-1.0]])
    net[2].weight.data, net[2].bias.data = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([0.25, 0.0])
    low, high = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    assert least_margin(net.requires_grad_(False), low, high, torch.tensor([0])).item() == pytest.approx(0.25)
