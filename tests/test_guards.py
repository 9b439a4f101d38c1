"""What holds for any network, defence and attack: the guard of ``judge`` and of every attack."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from prlib.attacks import auto, bim, cw_l2, eot_pgd, fgsm, mim, pgd, robust_probability, square, transfer
from prlib.cases import Outcome, judge
from prlib.data import Split
from prlib.redraw import PixelRedraw, perceptrons

ALL = ("normal", "A", "B", "C")
N, SIDE = 30, 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(classes: int = 3, seed: int = 0) -> nn.Sequential:
    """A network that is right about most images of ``own``."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, classes))
    nn.init.normal_(model[1].weight, generator=seeded(seed))
    nn.init.zeros_(model[1].bias)
    return model


def own(classes: int = 3, n: int = N) -> Split:
    images = torch.randint(256, (n, 1, SIDE, SIDE), generator=seeded(1)).to(torch.uint8)
    labels = network(classes)(images / 255).argmax(1)
    labels[::7] = (labels[::7] + 1) % classes
    return Split.of(images, labels, "own", "test")


SPLIT = own()
IMAGES, LABELS = SPLIT.images / 255, SPLIT.labels
INDEX = torch.tensor([1])
FGSM = partial(fgsm, epsilon=0.1)


KNOWING = {"epsilon": 0.1, "defence": None}
ATTACKS: dict[str, Callable[..., Tensor]] = {
    "fgsm": FGSM,
    "bim": partial(bim, epsilon=0.1),
    "mim": partial(mim, epsilon=0.1),
    "mim-l2": partial(mim, epsilon=0.1, step_size=0.3, norm="l2"),
    "cw": lambda *given: cw_l2(*given, max_steps=124)[0],
    "pgd": lambda *given: pgd(*given, epsilon=0.1, step_size=0.03, steps=5, generator=seeded()),
    "square": lambda *given: square(*given, **KNOWING, generator=seeded(), queries=50),
    "auto": lambda *given: auto(*given, **KNOWING, generator=seeded(), steps=10),
    "transfer": lambda model, *given: transfer(
        model, *given, surrogate=model, epsilon=0.1, step_size=0.03, steps=5, generator=seeded()
    ),
}


def tensors(outcome: Outcome) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(outcome).items() if value is not None}


def same(first: dict[str, Outcome], second: dict[str, Outcome]) -> bool:
    pairs = [(tensors(first[case]), tensors(second[case])) for case in first]
    return first.keys() == second.keys() and all(torch.equal(a[name], b[name]) for a, b in pairs for name in a)


class Around(nn.Module):
    """A network behind any function of images and network."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Any], model: nn.Module | None = None) -> None:
        super().__init__()
        self.model, self.function = model or network(), function

    def forward(self, images: Tensor) -> Any:
        return self.function(self.model, images)


# What is given is given as a copy.


def test_a_defence_in_place_measures_as_its_twin() -> None:
    judged = partial(judge, network(), SPLIT, seed=0, cases=(*ALL, "A twice", "C twice"), attack=FGSM)
    twin = judged(defence=lambda images, generator: images * 0.5)
    assert twin["normal"].l2.min() > 0.5
    assert same(judged(defence=lambda images, generator: images.mul_(0.5)), twin)
    buffer = torch.empty_like(IMAGES)  # that it gives again and again
    assert same(judged(defence=lambda images, generator: torch.mul(images, 0.5, out=buffer)), twin)


def test_an_attack_in_place_measures_as_its_twin() -> None:
    def in_place(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        images.copy_(FGSM(model, images, labels))
        labels.zero_()
        return images

    judged = partial(judge, network(), SPLIT, None, 0, ALL)
    assert same(judged(in_place), judged(FGSM))
    assert judged(FGSM)["normal"].correct.float().mean() > 0.8 > 0.6 > judged(FGSM)["B"].correct.float().mean()


def test_a_network_that_normalises_in_place_measures_as_its_twin() -> None:
    in_place, twin = (Around(lambda model, x: model(x.sub_(0.5))), Around(lambda model, x: model(x - 0.5)))
    for attack in ATTACKS.values():
        assert torch.equal(attack(in_place, IMAGES, LABELS), attack(twin, IMAGES, LABELS))
    assert same(judge(in_place, SPLIT, None, 0, ALL, FGSM), judge(twin, SPLIT, None, 0, ALL, FGSM))
    assert torch.equal(IMAGES, SPLIT.images / 255)


@pytest.mark.parametrize("name", ["pgd", "square", "auto", "robust"])
def test_attacks_on_a_defence_in_place_are_those_on_its_twin(name: str) -> None:
    def attacked(defence: Callable[..., Tensor]) -> Tensor:
        known = {"generator": seeded()}
        if name == "robust":
            return robust_probability(network(), IMAGES, LABELS, draws=3, defence=defence, **known)
        options = {"pgd": {"step_size": 0.05, "steps": 3}, "square": {"queries": 20}, "auto": {"steps": 5}}[name]
        function = {"pgd": eot_pgd, "square": square, "auto": auto}[name]
        return function(network(), IMAGES, LABELS, epsilon=0.1, defence=defence, **options, **known)

    assert torch.equal(attacked(lambda x, generator: x.mul_(0.5)), attacked(lambda x, generator: x * 0.5))


# The network: eval mode inside, as found afterwards, whatever it is.


def moody() -> nn.Sequential:
    """Batch norm and dropout in train mode, one layer not, with a gradient that somebody still needs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.2)), *network()).train()
    model[2].eval()
    model[-1].weight.grad = torch.full_like(model[-1].weight, 7.0)
    model[-1].bias.requires_grad_(False)
    return model


def test_it_is_judged_in_eval_mode_and_left_as_found() -> None:
    def rude(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        images.requires_grad_()
        nn.functional.cross_entropy(model(images), labels).backward()
        model.zero_grad()
        model[2].train()
        return images.detach()

    model, found = moody(), moody()
    for attack in (FGSM, rude, lambda m, x, y: torchattacks.FGSM(m, eps=0.1)(x, y)):
        outcome = judge(model, SPLIT, None, 0, ALL, attack)
        assert torch.equal(outcome["normal"].correct, moody().eval()(IMAGES).argmax(1) == LABELS)
        assert all(
            torch.equal(a, b) for a, b in zip(model.state_dict().values(), found.state_dict().values(), strict=True)
        )
        assert [m.training for m in model.modules()] == [m.training for m in found.modules()]
        assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in found.parameters()]
        assert (model[-1].weight.grad == 7).all() and model[0].weight.grad is None


def test_whoever_changes_the_network_is_found_and_the_change_undone() -> None:
    def in_train_mode(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        model.train()(images)  # moves batch norm's statistics
        return images

    def learning(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            model[-1].weight.mul_(0.5)
        return images

    for attack, name in ((in_train_mode, "0.running_mean"), (learning, "4.weight")):
        model, found = moody(), moody()
        with pytest.raises(ValueError, match=f"must leave the network as it is; {name} has been changed"):
            judge(model, SPLIT, None, 0, ("B",), attack)
        for key, value in model.state_dict().items():
            assert torch.equal(value, found.state_dict()[key]) or "num_batches" in key


def _fail(model: nn.Sequential) -> None:
    model[1].weight.data.zero_()
    raise RuntimeError("halfway")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda model: model.half(), "1.weight"),
        (lambda model: setattr(model[1].weight, "data", torch.zeros(1)), "1.weight"),
        (lambda model: setattr(model[1], "weight", nn.Parameter(torch.zeros(3, 16))), "a parameter of 1"),
        (lambda model: model.append(nn.ReLU()), "a layer of the network"),
        (lambda model: setattr(model, "1", nn.Linear(16, 3)), "a layer of the network"),
        (lambda model: model.register_forward_hook(lambda *given: given[2] * 0), "a hook of the network"),
        (lambda model: model[1].register_full_backward_hook(lambda *given: None), "a hook of 1"),
        (_fail, "halfway"),
    ],
)
def test_layers_hooks_and_types_are_changed_back_too(change: Callable[[nn.Sequential], Any], named: str) -> None:
    def rude(model: nn.Sequential, images: Tensor, labels: Tensor) -> Tensor:
        change(model)
        return images

    model = network()
    with pytest.raises((ValueError, RuntimeError), match=named):
        judge(model, SPLIT, None, 0, ("B",), rude)
    assert same(judge(model, SPLIT, None, 0, ALL, FGSM), judge(network(), SPLIT, None, 0, ALL, FGSM))
    assert [type(layer) for layer in model] == [nn.Flatten, nn.Linear] and model[1].weight.dtype == torch.float32


def test_a_network_may_keep_a_buffer_of_its_own() -> None:
    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()
            self.register_buffer("last", torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            self.last = images.detach()
            return self.model(images)

    assert same(judge(Remembering(), SPLIT, None, 0, ALL, FGSM), judge(network(), SPLIT, None, 0, ALL, FGSM))


@pytest.mark.parametrize("kind", ["constant", "hard labels", "no_grad", "inference_mode", "NumPy"])
def test_a_network_without_a_gradient_is_stuck_everywhere(kind: str) -> None:
    def forward(model: nn.Module, images: Tensor) -> Tensor:
        if kind == "constant":
            return torch.eye(3)[:1].repeat(len(images), 1)
        if kind == "hard labels":
            return nn.functional.one_hot(model(images).argmax(1), 3).float()
        if kind == "NumPy":
            return torch.from_numpy(model(images).detach().numpy())
        with getattr(torch, kind)():
            return model(images)

    model = Around(forward)
    plain = judge(model, SPLIT, None, 0)["normal"]
    for name, attack in ATTACKS.items():
        outcome = judge(model, SPLIT, None, 0, ("normal", "B"), attack)
        assert torch.equal(outcome["normal"].correct, plain.correct) and outcome["B"].stuck.all()
        if name in ("fgsm", "bim", "mim", "mim-l2"):
            assert outcome["B"].l2.max() == 0
    if kind != "constant":
        assert torch.equal(plain.correct, network()(IMAGES).argmax(1) == LABELS)


@pytest.mark.parametrize("made", [torch.jit.script, lambda model: torch.jit.trace(model, IMAGES)])
def test_a_scripted_network_is_judged_as_its_twin_and_left_as_found(made: Callable[..., Any]) -> None:
    scripted = made(network()).train()
    assert same(judge(scripted, SPLIT, None, 0, ALL, FGSM), judge(network(), SPLIT, None, 0, ALL, FGSM))
    assert scripted.training and all(parameter.requires_grad for parameter in scripted.parameters())


class _Broken(torch.autograd.Function):
    """As a layer in eight bits: what it gives back is not even zero."""

    @staticmethod
    def forward(_: Any, images: Tensor) -> Tensor:
        return images * 2

    @staticmethod
    def backward(_: Any, *__: Tensor) -> None:
        return None


def test_a_network_that_breaks_the_gradient_off_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the network must have a gradient, even if it is zero"):
        judge(Around(lambda model, x: model(_Broken.apply(x))), SPLIT, None, 0, ALL, FGSM)


def test_a_defence_that_is_a_network_is_judged_in_eval_mode_and_left_as_found() -> None:
    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Sigmoid())

        def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
            return self.layers(images)

    defence, evaluated = Denoiser(), Denoiser().eval()
    assert same(judge(network(), SPLIT, defence, 0, ALL, FGSM), judge(network(), SPLIT, evaluated, 0, ALL, FGSM))
    assert defence.training and defence.layers[1].training and defence.layers[0].num_batches_tracked == 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_whatever_the_callers_mode(mode: Callable[[], Any]) -> None:
    model = network()
    plain = judge(model, SPLIT, None, 0, ALL, FGSM), [attack(model, IMAGES, LABELS) for attack in ATTACKS.values()]
    with mode():
        split = Split.of(SPLIT.images + 0, SPLIT.labels + 0, "own", "test")  # made inside, too
        inside = (
            judge(model, split, None, 0, ALL, FGSM),
            [attack(model, IMAGES + 0, LABELS + 0) for attack in ATTACKS.values()],
        )
    assert same(plain[0], inside[0])
    assert all(torch.equal(a, b) for a, b in zip(plain[1], inside[1], strict=True))
    with torch.inference_mode():
        made_inside = network()
    for call in (judge, fgsm):
        with pytest.raises(ValueError, match="the network must be made outside"):
            judge(made_inside, SPLIT, None, 0) if call is judge else FGSM(made_inside, IMAGES, LABELS)


class NoParameters(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ network()[1].weight.detach().T.to(images.dtype)


UNUSUAL = {
    "no parameters": NoParameters,
    "DataParallel": lambda: nn.DataParallel(network()),
    "half": lambda: network().half(),
    "bfloat16": lambda: network().bfloat16(),
    "double": lambda: network().double(),
    "traced": lambda: torch.jit.trace(network(), IMAGES),
    "logits of another layout": lambda: Around(lambda model, x: model(x).T.contiguous().T),
    "channels last": lambda: nn.Sequential(nn.Conv2d(1, 4, 2), *network()[:1], nn.Linear(36, 3)).to(
        memory_format=torch.channels_last
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_network_may_be_unusual(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = UNUSUAL[name]()
    outcome = judge(model, SPLIT, None, 0, ALL, FGSM)
    if "channels" not in name:
        usual = judge(network(), SPLIT, None, 0, ALL, FGSM)
        agreeing = [(outcome[case].correct == usual[case].correct).float().mean() for case in ALL]
        assert min(agreeing) >= 1 - 2 / N  # half precision may round two images over the boundary
    for attack in ATTACKS.values():
        adversarial = attack(model, IMAGES, LABELS)
        assert adversarial.isfinite().all() and (adversarial != IMAGES).any()
    assert capsys.readouterr().out == ""  # such as "Failed to set device automatically"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_come_back_in_their_own_type(dtype: torch.dtype) -> None:
    model, images = network().to(dtype), IMAGES.to(dtype)
    for name, attack in ATTACKS.items():
        adversarial = attack(model, images, LABELS)
        assert adversarial.dtype == dtype and adversarial.min() >= 0 and adversarial.max() <= 1
        fooled = (model(adversarial).argmax(1) != LABELS).float().mean()
        expected = (network()(ATTACKS[name](network(), IMAGES, LABELS)).argmax(1) != LABELS).float().mean()
        assert abs(fooled - expected) < 0.15 and expected > 0.2, name


def test_autoattack_of_two_classes_leaves_what_a_linear_network_must_withstand() -> None:
    """Two logits have no difference-of-logits ratio; the worst corner of the ε-ball within [0, 1] is known."""
    model, epsilon = network(2), 0.1
    split = own(2, n=100)
    images, labels = split.images / 255, split.labels
    weight = model[1].weight.detach()
    slope = (weight[1 - labels] - weight[labels]).view_as(images)  # towards the other class
    worst = (images + epsilon * slope.sign()).clamp(0, 1)
    withstands = model(worst).argmax(1) == labels
    known = {"epsilon": epsilon, "defence": None, "generator": seeded(), "steps": 20}
    found = model(auto(model, images, labels, **known)).argmax(1) == labels
    assert torch.equal(found, withstands) and 10 < withstands.sum() < (model(images).argmax(1) == labels).sum() < 95


def test_images_may_lie_in_memory_as_they_like() -> None:
    model = network()
    for strided in (IMAGES.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2), IMAGES.flip(0).flip(0)):
        for attack in ATTACKS.values():
            assert torch.equal(attack(model, strided, LABELS), attack(model, IMAGES, LABELS))
    colour = IMAGES.repeat(1, 3, 1, 1).contiguous(memory_format=torch.channels_last)
    wide = nn.Sequential(nn.Conv2d(3, 1, 1), *network())
    for attack in ATTACKS.values():
        assert torch.allclose(attack(wide, colour, LABELS), attack(wide, colour.contiguous(), LABELS), atol=1e-5)


def test_hooks_of_the_network_stay_and_see_its_own_images() -> None:
    model, seen = network(), []
    model.register_forward_hook(lambda module, given, logits: seen.append(len(given[0])))
    judge(model, SPLIT, None, 0)
    assert N in seen and len(model._forward_hooks) == 1


def test_random_numbers_of_pytorchs_own_come_from_the_seed() -> None:
    def noise(images: Tensor, generator: torch.Generator) -> Tensor:
        return (images + torch.randn_like(images)).clamp(0, 1)

    state = torch.get_rng_state()
    random = Around(lambda model, x: model(x) + torch.rand(1))
    judged = partial(judge, random, SPLIT, noise, cases=ALL, attack=FGSM)
    first = judged(seed=1)
    torch.rand(7)
    assert same(judged(seed=1), first) and not same(judged(seed=2), first)
    torch.set_rng_state(state)
    judged(seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_image_is_enough_and_a_half_batch_more() -> None:
    many = own(n=251)
    alone = judge(network(), many, None, 0, ALL, FGSM, batches=[1])
    last = Split.of(many.images[250:], many.labels[250:], "own", "test")
    assert same(judge(network(), last, None, 0, ALL, FGSM), alone)
    assert len(judge(network(), many, None, np.int64(0), ALL, FGSM)["B"].correct) == 251


# What is refused, in one sentence, and before anything else is computed.

REFUSED: dict[str, tuple[str, Callable[[], Any]]] = {
    "tuple": ("logits N×K .* got tuple", lambda: Around(lambda model, x: (model(x), None))),
    "dict": ("got dict", lambda: Around(lambda model, x: {"logits": model(x)})),
    "numbers": (r"got torch.float32 of shape \(1,\)", lambda: Around(lambda model, x: model(x)[:, 0])),
    "maps": (r"shape \(1, 3, 1, 1\)", lambda: Around(lambda model, x: model(x)[:, :, None, None])),
    "one class": (r"K of at least .*shape \(1, 1\)", lambda: network(1)),
    "too few classes": (r"K of at least 3, the labels' classes.*shape \(1, 2\)", lambda: network(2)),
    "classes": ("got torch.int64", lambda: Around(lambda model, x: (1e6 * model(x)).long())),
    "sparse": ("got sparse torch.float32", lambda: Around(lambda model, x: model(x).to_sparse())),
    "nested": ("got nested", lambda: Around(lambda model, x: torch.nested.nested_tensor(list(model(x).detach())))),
    "eight bits": ("got torch.float8", lambda: Around(lambda model, x: model(x).to(torch.float8_e4m3fn))),
    "another batch": (r"shape \(2, 3\)", lambda: Around(lambda model, x: model(x).repeat(2, 1))),
    "NaN": ("logits must be finite", lambda: Around(lambda model, x: model(x) * math.nan)),
    "infinity": ("logits must be finite", lambda: Around(lambda model, x: model(x).index_fill(1, INDEX, -math.inf))),
    "no weights yet": ("uninitialized parameter", lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3))),
    "no weights": ("must have weights; it is on the device meta", lambda: network().to("meta")),
    "no module": ("must be a torch.nn.Module; got function", lambda: lambda x: x),
    "no network": ("must be a torch.nn.Module; got NoneType", lambda: None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_gives_no_finite_logits_is_refused(name: str) -> None:
    sentence, build = REFUSED[name]
    attacked: list[int] = []
    with pytest.raises(ValueError, match=sentence):
        judge(build(), SPLIT, None, 0, ALL, lambda m, x, y: attacked.append(1))
    assert not attacked
    for attack in ATTACKS.values():
        with pytest.raises(ValueError, match=sentence.replace(r"\(1,", r"\(\d+,").replace(r"\(2,", r"\(\d+,")):
            attack(build(), IMAGES, LABELS)


def test_a_network_that_fails_on_one_image_only_is_refused() -> None:
    rare = Around(lambda model, x: model(x) + torch.where(x[:, :, 0, 0] == IMAGES[17, 0, 0, 0], math.nan, 0))
    with pytest.raises(ValueError, match="logits must be finite"):
        judge(rare, SPLIT, None, 0)


STEPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "nothing": ("got NoneType", lambda x: None),
    "a list": ("got list", lambda x: list(x)),
    "sparse": ("got sparse torch.float32", lambda x: x.to_sparse()),
    "a pair": ("got tuple", lambda x: (x, x)),
    "NumPy": ("got ndarray", lambda x: x.numpy()),
    "float64": ("got torch.float64", lambda x: x.double()),
    "float16": ("got torch.float16", lambda x: x.half()),
    "uint8": ("got torch.uint8", lambda x: (255 * x).byte()),
    "smaller": (r"shape \(30, 1, 2, 4\)", lambda x: x[:, :, :2]),
    "fewer": (r"shape \(1, 1, 4, 4\)", lambda x: x[:1]),
    "colour": (r"shape \(30, 3, 4, 4\)", lambda x: x.repeat(1, 3, 1, 1)),
    "too bright": ("from 0.* to 1.5", lambda x: x.clamp(0.2) * 0 + 1.5 * (x > 0.5)),
    "negative": ("values from -", lambda x: x - 0.5),
    "NaN": ("values from nan", lambda x: x * math.nan),
    "one NaN": ("values from nan", lambda x: x.index_fill(0, torch.tensor([3]), math.nan)),
    "infinity": ("to inf", lambda x: x + math.inf),
}


@pytest.mark.parametrize("name", STEPS)
def test_what_a_step_gives_is_checked(name: str) -> None:
    sentence, step = STEPS[name]
    with pytest.raises(ValueError, match=f"^the defence must return images .*{sentence}"):
        judge(network(), SPLIT, lambda x, generator: step(x), 0)
    with pytest.raises(ValueError, match=f"^the attack must return images .*{sentence}"):
        judge(network(), SPLIT, None, 0, ALL, lambda model, x, labels: step(x))
    if "values" not in sentence and "to " not in sentence:  # of values the network's logits tell
        with pytest.raises(ValueError, match=f"^the defence must return images .*{sentence.replace('30', '.*')}"):
            call = {"epsilon": 0.1, "step_size": 0.1, "steps": 1, "generator": seeded()}
            eot_pgd(network(), IMAGES, LABELS, defence=lambda x, generator: step(x), **call)


def test_gradients_of_a_step_are_cut() -> None:
    def traced(images: Tensor, *_: Any) -> Tensor:
        return images.clone().requires_grad_() * 1

    outcome = judge(network(), SPLIT, traced, 0, ALL, lambda m, x, y: traced(FGSM(m, x, y)))
    assert same(outcome, judge(network(), SPLIT, None, 0, ALL, FGSM))
    assert not any(value.requires_grad for o in outcome.values() for value in tensors(o).values())


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (SPLIT.images, LABELS[:, None], "labels must be a torch.int64 tensor N .*shape \\(30, 1\\)"),
        (SPLIT.images, LABELS.int(), "labels must be .*got torch.int32"),
        (SPLIT.images, LABELS.float(), "labels must be .*got torch.float32"),
        (SPLIT.images, LABELS.numpy(), "labels must be .*got ndarray"),
        (SPLIT.images, LABELS.tolist(), "labels must be .*got list"),
        (SPLIT.images, LABELS - 1, "labels must not be negative; got -1"),
        (SPLIT.images, LABELS[1:], "one label for each image"),
        (SPLIT.images[:0], LABELS[:0], "at least one; got 0"),
        (SPLIT.images / 255, LABELS, "images must be a torch.uint8 tensor .*got torch.float32"),
        (SPLIT.images.numpy(), LABELS, "images must be .*got ndarray"),
        (SPLIT.images[:, 0], LABELS, "images must be .*shape \\(30, 4, 4\\)"),
        (SPLIT.images.to_sparse(), LABELS, "images must be .*got sparse torch.uint8"),
        (SPLIT.images[:, :0], LABELS, "images must have pixels; got .*shape \\(30, 0, 4, 4\\)"),
        (SPLIT.images, LABELS.to("meta"), "labels must be .*on the device meta"),
        (SPLIT.images, LABELS[0], "labels must be .*shape \\(\\)"),
    ],
)
def test_a_split_is_of_uint8_images_and_int64_labels(images: Any, labels: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Split.of(images, labels, "own", "test")
    with pytest.raises(ValueError, match=sentence):
        judge(network(), Split(images, labels, "own", "test", ""), None, 0, ALL, FGSM)  # made in another way


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cases": ["D"]}, r"cases must be a list of normal, A, .*got \['D'\]"),
        ({"cases": "normal"}, "cases must be a list"),
        ({"cases": []}, "cases must be a list .*got none"),
        ({"seed": 0.5}, "seed must be an integer of 64 bits; got 0.5"),
        ({"seed": 2**64}, "seed must be an integer of 64 bits"),
        ({"cases": None}, r"cases must be a list .*got \[None\]"),
        ({"cases": [["A"]]}, r"cases must be a list .*got \[\['A'\]\]"),
        ({"batches": 0.0}, r"batches must be among .*got \[0.0\]"),
        ({"batches": [[0]]}, r"batches must be among .*got \[\[0\]\]"),
        ({"split": (IMAGES, LABELS)}, "split must be a prlib.data.Split; got tuple"),
        ({"defence": "pr"}, "the defence must be a function .*got 'pr'"),
        ({"defence": PixelRedraw}, "the defence must be a function .*got <class"),
        ({"attack": "fgsm"}, "the attack must be a function .*got 'fgsm'"),
        ({"attack": None}, "every case but normal needs an attack"),
        ({"batches": [1]}, r"batches must be among the split's, 0 to 0; got \[1\]"),
        ({"batches": []}, "batches must be among"),
    ],
)
def test_arguments_of_judge_are_checked_first(change: dict[str, Any], sentence: str) -> None:
    model = network()
    model.register_forward_pre_hook(lambda *_: pytest.fail("the network was called"))
    arguments = {"split": SPLIT, "defence": None, "seed": 0, "cases": ALL, "attack": FGSM} | change
    with pytest.raises(ValueError, match=sentence):
        judge(model, **arguments)


def test_numpys_scalars_are_numbers_and_its_arrays_no_tensors() -> None:
    assert len(SPLIT.take(np.int64(6), np.int64(1))) == len(SPLIT.take(6, 1))
    for n, seed, sentence in ((2.5, None, "integer from 1 to 30; got 2.5"), (3, 0.5, "seed must be .*got 0.5")):
        with pytest.raises(ValueError, match=sentence):
            SPLIT.take(n, seed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epsilon must be a number from 0 to 1; got Fraction"):
        fgsm(network(), IMAGES, LABELS, epsilon=Fraction(1, 10))  # type: ignore[arg-type]
    model = network()
    scalars = {"epsilon": np.float64(0.1), "step_size": np.float64(0.05), "steps": np.int64(3)}
    plain = {"epsilon": 0.1, "step_size": 0.05, "steps": 3}
    for attack in (bim, mim):
        assert torch.equal(attack(model, IMAGES, LABELS, **scalars), attack(model, IMAGES, LABELS, **plain))
    for images, labels, sentence in ((IMAGES.numpy(), LABELS, "images"), (IMAGES, LABELS.numpy(), "labels")):
        with pytest.raises(ValueError, match=f"^{sentence} must be .*got ndarray"):
            FGSM(model, images, labels)
    with pytest.raises(ValueError, match=r"images must be .*got ndarray"):
        PixelRedraw.fit(steps=2)(IMAGES.numpy())
    weight = PixelRedraw.fit(k=np.int64(2), steps=np.int64(5)).weight
    perceptrons.cache_clear()
    assert torch.equal(weight, PixelRedraw.fit(k=2, steps=5).weight)
