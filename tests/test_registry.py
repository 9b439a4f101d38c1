"""What the registry says of the kinds of attack, compared with what they do; what the protocol says of its names."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from prlib import pages, paper
from prlib.attacks import Adversary, auto, bim, fgsm, mim, square
from prlib.attacks.base import ALLOWED, check_parameters
from prlib.attacks.registry import KINDS, Cost, Kind
from prlib.cases import all_batches, judge
from prlib.command_line import main
from prlib.data import DATASETS, Dataset, load, to_float
from prlib.defences import BUILDERS
from prlib.estimate import JUDGING, work
from prlib.experiment import Attack, Defence, Experiment, Training
from prlib.findings.cells import measured
from prlib.findings.claims import judge_claims
from prlib.halfway import Halfway
from prlib.judging import cells
from prlib.pages.names import attack_title
from prlib.profiles import Parameters, default_attack, default_defence, default_recipe
from prlib.profiles.named import NAMED, Named
from prlib.profiles.protocol import read_yaml
from prlib.profiles.suites import Choice, Entry, read_profile, read_suites
from prlib.record import read_record
from prlib.redraw import PixelRedraw
from prlib.run import Context, check, run
from prlib.snapshot import load_model
from prlib.store import Store

ONE = PixelRedraw.fit(steps=500)


class Counting(nn.Module):
    """Logits of some classes, which counts the images that it sees with a gradient and without."""

    def __init__(self, pixels: int = 16, classes: int = 5) -> None:
        super().__init__()
        self.layer = nn.Linear(pixels, classes)
        nn.init.normal_(self.layer.weight, generator=torch.Generator().manual_seed(0))
        self.gradients = self.predictions = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.requires_grad:
            self.gradients += len(images)
        else:
            self.predictions += len(images)
        return self.layer(images.flatten(1))


OPTIONS = {
    "fgsm": {},
    "bim": {"steps": 3},
    "mim": {},
    "cw_l2": {"max_steps": 100, "binary_search_steps": 2},
    "cw_released": {"max_steps": 10},
    "eot_pgd": {"steps": 2, "draws": 3, "restarts": 2, "step_size": 0.01},
    "crossing": {"steps": 3, "draws": 4},
    "square": {"queries": 20},
    "auto": {"steps": 20, "draws": 3},
    "transfer": {"steps": 2, "restarts": 3, "step_size": 0.01},
    "transfer_through": {"steps": 8, "draws": 2, "late_draws": 3, "targets": 4, "step_size": 0.01},
    "search": {"steps": 3, "draws": 4, "rounds": 3, "moves": 2, "width": 2},
    "hop_skip_jump": {"steps": 2, "votes": 3, "evaluations": 10},
    "cw_through": {"draws": 3, "max_steps": 200, "confidence": 50.0},
}


PGD = ("eot_pgd", "transfer", "transfer_through")
MORE_OPTIONS = [
    (name, {"step_size": 0.01, **options})
    for name in PGD
    for options in ({"steps": 5, "draws": 7}, {"steps": 8, "draws": 5, "late_draws": 3, "targets": 2})
]


@pytest.mark.parametrize(("name", "options"), [*OPTIONS.items(), *MORE_OPTIONS])
def test_a_kind_costs_and_sees_what_the_registry_says(name: str, options) -> None:
    kind, images = KINDS[name], torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    attacked, surrogate = Counting(), Counting()
    known = {"defence": ONE, "generator": torch.Generator().manual_seed(2), "surrogate": surrogate}
    given = {key: known[key] for key in kind.needs} | ({"epsilon": 0.01} if kind.bounded else {})
    labels = attacked(images).argmax(1)
    attacked.predictions = 0
    result = kind.function(attacked, images, labels, **options, **given)
    assert result.shape == images.shape
    assert kind.follows_gradient == (attacked.gradients > 0)
    gradients, predictions = (count * len(images) for count in kind.cost(options))
    counted, answered = (getattr(attacked, what) + getattr(surrogate, what) for what in ("gradients", "predictions"))
    if name in ("cw_l2", "cw_through"):  # images leave early
        assert 0.5 * gradients <= counted <= 2 * gradients
    elif name == "cw_released":  # a batch can end early
        assert 0 < counted <= gradients
    elif name == "search":  # the beam is narrow at first, and images that are fooled leave
        assert 0.3 * gradients <= counted <= gradients
        assert 0.2 * predictions <= answered <= predictions
    elif name == "auto":  # each loss's first point costs some draws more
        assert gradients <= counted <= 1.2 * gradients
    else:
        assert counted == gradients
    if name == "square":  # it stops where it succeeds, and looks at the last point once more
        assert 0 < answered <= 1.2 * predictions
    elif name == "hop_skip_jump":  # where it goes back to the boundary it asks as often as that takes
        assert 0.2 * predictions <= answered <= 2 * predictions
    elif name in PGD:
        assert answered == predictions
    elif name != "search":  # others may look at the clean images
        assert 0 <= answered - predictions <= len(images) * OPTIONS[name].get("draws", 1)


def test_what_is_not_given_costs_its_default() -> None:
    assert KINDS["bim"].cost({}) == Cost(10)
    assert KINDS["square"].cost({"queries": 10}) == Cost(0, 50)
    assert KINDS["auto"].cost({"epsilon": 0.3}) == Cost(4000, 100)


def test_every_kind_is_counted() -> None:
    assert OPTIONS.keys() == KINDS.keys()


@pytest.mark.parametrize(
    ("defences", "attacks", "cases", "draws"),
    [
        (["pr"], (), (), 30),
        (["pr", "smoothed-noise"], (), (), 4),
        (["pr", "noise"], ("fgsm", "bim", "mim"), ("A", "B", "C"), 1),
        (["smoothed-noise"], ("fgsm",), ("A", "B"), 1),
        (["pr"], ("eot-pgd-10-steps", "crossing"), ("adaptive",), 20),
    ],
)
def test_an_estimate_is_what_judging_takes(defences, attacks, cases, draws: int) -> None:
    n, network = 4, Counting(28 * 28, 10)
    training = Training("mnist", "sample", 100, default_defence("pr", "mnist"), default_recipe("mnist"), 0)
    made = tuple(default_attack(name, "mnist") for name in attacks)
    tested_with = tuple(default_defence(name, "mnist") for name in defences)
    experiment = Experiment(training, tested_with, (1, 2), n, made, cases, draws=draws)
    split = load("mnist", "test", "sample").take(n)
    networks = [(epoch, network) for epoch in experiment.epochs]
    list(cells(experiment, networks, split, None, Halfway(None, {}), all_batches(split), "cpu", "none"))
    assert work(experiment) == pytest.approx(network.gradients + JUDGING * network.predictions, rel=0.02)


# Names.


def test_an_attacks_title_is_its_own() -> None:
    titles = [attack.title for attack in NAMED.values()]
    assert len(set(titles)) == len(titles) and all(titles)
    assert attack_title("eot-pgd-30-draws") == "EOT-PGD, 30 draws" and attack_title("toy") == "toy"
    assert attack_title("bim", 0.1) == "BIM, ε = 0.1"


def test_more_of_something_is_more_of_it_and_otherwise_the_same() -> None:
    related = [(name, a) for name, a in NAMED.items() if a.more_of or a.less_of]
    assert len(related) == 11
    numbers = {"steps", "draws", "late_draws", "restarts", "width", "step_share"}
    for name, attack in related:
        other = NAMED[attack.more_of or attack.less_of]
        more, less = (dict(a.options) for a in ((attack, other) if attack.more_of else (other, attack)))
        changed = {n for n in more.keys() | less.keys() if more.get(n) != less.get(n)}
        assert changed and changed <= numbers and attack.kind is other.kind, name
        # more steps may be shorter ones
        assert all(more[n] > less.get(n, 1) for n in changed - {"step_share"}), name
        assert "step_share" not in changed or more["step_share"] < less["step_share"]
        double = name.endswith("-double")
        assert all(more[n] == 2 * less[n] for n in changed) if double else len(changed - {"step_share"}) == 1


def test_a_baseline_knows_the_defence_and_follows_the_gradient() -> None:
    baselines = [attack for attack in NAMED.values() if attack.baseline]
    assert len(baselines) == 11
    assert all(attack.kind.adaptive and attack.kind.follows_gradient for attack in baselines)


def test_what_is_said_of_a_name_is_no_option() -> None:
    for name, attack in NAMED.items():
        options = dict(default_attack(name, "mnist").options)
        assert {"title", "more_of", "less_of", "baseline", "step_share"}.isdisjoint(options)
        assert ("epsilon" in options) == attack.kind.bounded


def test_a_new_attack_is_one_entry_of_the_registry_and_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def darker(model: nn.Module, images: torch.Tensor, labels: torch.Tensor | None, *, epsilon: float) -> torch.Tensor:
        return (images - epsilon).clamp_min(0)

    monkeypatch.setitem(KINDS, "darker", Kind("darker", darker, lambda **_: Cost(0), follows_gradient=False))
    monkeypatch.setitem(NAMED, "darker", Named({"function": "darker", "labels": "true"}, "darker"))
    attack = default_attack("darker", "mnist")
    training = Training("mnist", "sample", 100, Defence(), default_recipe("mnist"), 0)
    experiment = Experiment(training, (Defence(),), (1,), 20, (attack,), ("B",))
    assert "darker" in experiment.name and not attack.kind.adaptive
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    outcome = judge(model, load("mnist", "test", "sample").take(20), None, 0, ("B",), attack.build())["B"]
    assert outcome.attacked.max().item() == pytest.approx(0.3, abs=1e-6)


def test_a_new_defence_is_one_entry_of_the_builders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(BUILDERS, "dim", lambda share=0.5: lambda images, generator: share * images)
    entry = {"trained_with": "dim", "tested_with": ["none", "dim"]}
    monkeypatch.setitem(read_suites(), "dimmed", [Entry.model_validate(entry)])  # before what it may be read from
    monkeypatch.setitem(read_yaml("experiments"), "dimmed", [entry])
    profile = read_profile("sample")
    choice = Choice(suites=["dimmed"], datasets=["mnist"], epochs=[1])
    changed = profile.model_copy(update={"experiments": [choice]})
    monkeypatch.setattr("prlib.profiles.read_profile", lambda name: changed)
    (experiment,) = Parameters("sample", n_train=100, n_test=20).experiments(["dimmed"])
    record = run(experiment, Context(Store(tmp_path), progress="none"))
    assert [cell.tested_with for cell in record.cells] == ["none", "dim"]
    network = load_model(Store(tmp_path).snapshot(experiment.training, 1))
    test = load("mnist", "test", "sample").take(20, experiment.drawn)
    with torch.no_grad():
        right = network(0.5 * to_float(test.images)).argmax(1) == test.labels
    assert record.cells[1].correct == int(right.sum()) and record.cells[1].l2 > 0 == record.cells[0].l2


def test_a_new_defence_that_takes_a_seed_gets_the_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILDERS, "drawn", lambda share=0.5, seed=0: None)
    monkeypatch.setitem(BUILDERS, "fixed", lambda share=0.5: None)
    assert default_defence("drawn-once", "mnist", 7).options == (("seed", 7),)
    assert default_defence("fixed", "mnist", 7).options == ()


def test_a_new_dataset_is_one_entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The brighter half of an image tells its class."""
        labels = torch.arange({"train": 200, "test": 40}[split]) % 2
        images = torch.randint(0, 100, (len(labels), 1, 28, 28), generator=torch.Generator().manual_seed(len(labels)))
        images[labels == 0, :, :14] += 150
        images[labels == 1, :, 14:] += 150
        return images.to(torch.uint8), labels

    halves = Dataset("Halves", 1, 28, 200, 40, ("upper", "lower"), "drawn by the test", "none", read)
    monkeypatch.setitem(DATASETS, "halves", halves)
    parameters = Parameters("published", ["halves"], epochs=[3])
    experiments = parameters.experiments(["curves-none", "steps-none"])
    assert {e.training.dataset for e in experiments} == {"halves"}
    clean, attacked = (run(e, Context(Store(tmp_path), progress="none")) for e in experiments[:2])
    assert [cell.total for cell in (*clean.cells, *attacked.cells)] == [40] * (len(clean.cells) + len(attacked.cells))
    assert clean.cells[0].correct == 40 and dict(attacked.experiment.attacks[0].options)["epsilon"] == 8 / 256
    assert set(measured([clean, attacked]).dataset) == {"halves"}


# Bad input.


@pytest.mark.parametrize(("relation", "word"), [("same", "yes"), ("clearly above", "no")])
def test_a_new_claim_is_one_entry(monkeypatch: pytest.MonkeyPatch, relation: str, word: str) -> None:
    """Its verdict is computed and is in the tables: on MNIST redrawing in both phases costs less than the tolerance."""
    toy = yaml.safe_load(f"""
        id: toy-both
        place: Section 4.1
        claim: A toy says so.
        cells: {{table: 2, dataset: mnist, phase: [none, both]}}
        left: {{phase: both}}
        relation: {relation}
        right: {{phase: none}}
        speaks: for
        fixed: {{commit: d06145d, when: "2026-11-22 15:26", first_record: "2026-11-22 19:01"}}
    """)
    all_claims = paper.checked_claims([*paper.claims(), toy])
    monkeypatch.setattr(paper, "claims", lambda: all_claims)
    folder = Path(__file__).parents[1] / "results" / "published" / "records"
    records = [read_record(path) for path in folder.glob("mnist-full60000-*-s0-e50-clean-*.json")]
    records = [record for record in records if record.experiment.split == "test"]
    accuracy = measured(records).query("dataset == 'mnist' and epochs == 50").set_index(["defence", "phase"]).ours
    assert abs(accuracy["pr", "both"].value - accuracy["none", "none"].value) < 0.005
    (verdict,) = judge_claims(measured(records), "toy")
    assert (verdict.supported, verdict.claim) == (word, toy)
    assert "A toy says so." in pages.verdicts(records, "toy")._repr_markdown_()


def test_what_every_option_may_be_is_said() -> None:
    assert {option for kind in KINDS.values() for option in kind.defaults} <= set(ALLOWED)


def test_a_parameter_of_which_nothing_is_said_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="temperature"):
        check_parameters(temperature=1)
    with pytest.raises(ValueError, match=r"^steps must be a positive integer up to 1e\+15; got True"):
        check_parameters(steps=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epsilon", 1.5), ("step_size", 0), ("steps", 2.5), ("warm_up", -1), ("warm_up", float("nan")), ("warm_up", "2")],
)
def test_an_adversarys_fields_are_checked(name: str, value: object) -> None:
    good = Adversary(0.1, 0.025, 7, 2)
    with pytest.raises(ValueError, match=rf"^{name} must be .*; got "):
        dataclasses.replace(good, **{name: value})
    options = dataclasses.asdict(good) | {name: value}
    with pytest.raises(ValueError, match=rf"^{name} must be .*; got "):
        Defence("adversarial-pgd", tuple(options.items()))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"temperature": 0.5}, "an option of attack 'bim' must be one of .*steps.*; got 'temperature'"),
        ({"generator": None}, "got 'generator'"),
        ({"steps": 2.5}, r"steps must be a positive integer up to 1e\+15; got 2.5"),
        ({"function": "fgms"}, "the function of an attack must be one of .*; got 'fgms'"),
    ],
)
def test_an_attacks_options_are_refused_by_name(change: dict[str, object], sentence: str) -> None:
    options = dict(default_attack("bim", "mnist").options) | change
    with pytest.raises(ValueError, match=sentence):
        Attack("bim", tuple(options.items()))


def test_an_adversary_is_nothing_to_put_before_a_network() -> None:
    with pytest.raises(ValueError, match=r"^'adversarial-pgd' is a defence of training alone"):
        default_defence("adversarial-pgd", "mnist").build()
    assert default_defence("adversarial-pgd", "mnist").preparation() == Adversary(0.3, 0.075, 7, 2)


# A library that pip cannot install beside the others.


def test_the_library_is_imported_without_torchattacks() -> None:
    script = "import sys; sys.modules['torchattacks'] = None; import prlib.attacks, prlib.run"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_missing_torchattacks_is_said_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    sentence = "need torchattacks .*pip install --no-deps torchattacks"
    images = torch.rand(2, 1, 4, 4)
    for attack in (square, auto):
        with pytest.raises(ModuleNotFoundError, match=sentence):
            generator = torch.Generator().manual_seed(0)
            attack(Counting(), images, torch.tensor([0, 1]), epsilon=0.1, defence=None, generator=generator)
    for attack in (fgsm, bim, mim):
        assert attack(Counting(), images, epsilon=0.1).shape == images.shape
    training = Training("mnist", "sample", 100, Defence(), default_recipe("mnist"), 0)
    for name in ("square", "auto"):
        attack = default_attack(name, "mnist")
        with pytest.raises(ModuleNotFoundError, match=sentence):
            run(Experiment(training, (Defence(),), (1,), 20, (attack,), ("adaptive",)), Context(Store(tmp_path)))
        with pytest.raises(ModuleNotFoundError, match=sentence):
            check([Experiment(training, (Defence(),), (1,), 20, (attack,), ("adaptive",))], Context(Store(tmp_path)))
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path))
    known_black = [e.name for e in Parameters("published", ["mnist"]).experiments(["known-black"])]
    assert main(["run", *known_black, "--profile", "published", "--recompute", "--progress", "none"]) == 2
    assert re.search(sentence, capsys.readouterr().err)
