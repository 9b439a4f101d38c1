"""Nothing that is not finite passes as a result, and an infinite gradient stops no attack."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prlib.attacks import auto, bim, crossing, cw_l2, eot_pgd, fgsm, mim, pgd, square, transfer
from prlib.attacks.base import check_parameters, loss_gradient
from prlib.cases import judge
from prlib.data import Split, load
from prlib.guard import copied, guard
from prlib.redraw import PixelRedraw
from prlib.rivals import GaussianNoise
from prlib.train import Recipe, train, transformed

N, SIDE = 40, 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Network(nn.Module):
    """Three classes, linear in any function of the pixels."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(SIDE * SIDE, 3, generator=seeded()))

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images).flatten(1) @ self.weight


def split() -> Split:
    """Images half of whose pixels are black, with the labels that the square root's network gives them."""
    generator = seeded(1)
    images = torch.randint(1, 256, (N, 1, SIDE, SIDE), generator=generator)
    images *= torch.rand(images.shape, generator=generator) < 0.5
    return Split.of(images.to(torch.uint8), Network(torch.sqrt)(images / 255).argmax(1), "own", "test")


SPLIT = split()
IMAGES, LABELS = SPLIT.images / 255, SPLIT.labels
BALL = {"epsilon": 0.2}
ATTACKS: dict[str, Callable[..., Tensor]] = {
    "fgsm": partial(fgsm, **BALL),
    "bim": partial(bim, **BALL),
    "mim": partial(mim, **BALL),
    "mim-l2": partial(mim, **BALL, norm="l2", step_size=0.5),
    "cw": lambda *given: cw_l2(*given, max_steps=248)[0],
    "pgd": lambda *given: pgd(*given, **BALL, step_size=0.05, steps=10, generator=seeded()),
    "pgd-margin": lambda *given: pgd(*given, **BALL, step_size=0.05, steps=10, generator=seeded(), loss="margin"),
    "eot": lambda *given: eot_pgd(
        *given, **BALL, step_size=0.05, steps=10, generator=seeded(), defence=GaussianNoise(0.01)
    ),
    "auto": lambda *given: auto(*given, **BALL, defence=None, generator=seeded(), steps=20),
    "square": lambda *given: square(*given, **BALL, defence=None, generator=seeded(), queries=300),
    "transfer": lambda model, *given: transfer(
        model, *given, **BALL, surrogate=model, step_size=0.05, steps=10, generator=seeded()
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_infinite_gradient_at_black_pixels_stops_no_attack(name: str) -> None:
    """A network that begins with a square root is no stronger than one whose derivative there is only large."""
    model, smooth = Network(torch.sqrt), Network(lambda x: (x + 1e-9).sqrt())
    infinite = torch.autograd.grad(cross_entropy(model(black := IMAGES.clone().requires_grad_()), LABELS), black)[0]
    assert infinite.isinf().any() and not (infinite.isinf() | infinite.isnan()).all()
    outcome = judge(model, SPLIT, None, 0, ("normal", "B"), ATTACKS[name])
    expected = judge(smooth, SPLIT, None, 0, ("B",), ATTACKS[name])["B"].correct.float().mean()
    accuracy = outcome["B"].correct.float().mean()
    assert outcome["normal"].correct.all() and accuracy < (0.7 if name == "square" else 0.3)
    assert accuracy < expected + 0.1
    assert outcome["B"].l2.isfinite().all() and not outcome["B"].stuck.any()


def test_momentum_follows_every_pixel_beside_an_infinite_one() -> None:
    """Its sign where it is infinite, as large as the largest finite one, and the others' as ever."""
    model = Network(torch.sqrt)
    one = IMAGES.clamp(0.1)
    one[:, 0, 0, 0] = 0
    moved = mim(model, one, LABELS, **BALL, steps=1, step_size=0.01) - one
    plain = mim(Network(lambda x: (x + 1e-6).sqrt()), one, LABELS, **BALL, steps=1, step_size=0.01) - one
    assert torch.equal(moved.sign(), plain.sign()) and (moved[:, 0, 0, 0] >= 0).all() and (moved[:, 0, 0, 0] > 0).any()
    length = (mim(model, one, LABELS, epsilon=1, steps=1, step_size=0.01, norm="l2") - one).flatten(1).norm(dim=1)
    assert (length > 0.005).all() and (length <= 0.01 + 1e-6).all()  # shorter where a black pixel would go below 0


@pytest.mark.parametrize(
    ("given", "followed"),
    [
        ([1.0, -2.0, 0.0, 3.0], [1.0, -2.0, 0.0, 3.0]),
        ([1.0, math.inf, -math.inf, -3.0], [1.0, 3.0, -3.0, -3.0]),
        ([math.nan, 1.0, math.inf, 0.0], [0.0, 1.0, 1.0, 0.0]),
        ([math.inf, 0.0, math.nan, -math.inf], [1.0, 0.0, 0.0, -1.0]),
        ([math.nan] * 4, [0.0] * 4),
    ],
)
def test_what_a_gradient_that_is_not_finite_counts_as(given: list[float], followed: list[float]) -> None:
    """An image's own entries decide, not its neighbour's."""
    images = torch.zeros(2, 1, 2, 2, requires_grad=True)
    gradient = torch.tensor([[given], [[100.0, -1.0, 0.0, 5.0]]]).view(2, 1, 2, 2)
    (found,) = torch.autograd.grad(copied(images), images, gradient)
    assert found.flatten(1).tolist() == [followed, [100.0, -1.0, 0.0, 5.0]]


class NoGradient(torch.autograd.Function):
    """The identity, whose derivative at images that begin with a black pixel is NaN."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.black = images[:, :, :1, :1] == 0
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.where(ctx.black, math.nan, gradient)


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"square"}))
def test_an_image_without_a_gradient_is_called_stuck_and_spoils_no_other(name: str) -> None:
    black = IMAGES[:, 0, 0, 0] == 0
    assert 5 < black.sum() < N - 5
    outcome = judge(Network(NoGradient.apply), SPLIT, None, 0, ("B",), ATTACKS[name])["B"]
    assert torch.equal(outcome.stuck, black)
    assert outcome.l2.isfinite().all() and (outcome.l2[~black & outcome.correct] > 0).all()
    if name in ("fgsm", "bim", "mim", "mim-l2"):
        assert (outcome.l2[black] == 0).all()


def test_crossing_goes_on_beside_an_infinite_gradient() -> None:
    """Redrawn values can be 0, where the square root has no derivative."""
    defence = PixelRedraw.fit(steps=500)
    model = Network(torch.sqrt)
    given = {"defence": defence, "generator": seeded(), "steps": 3, "draws": 50}
    adversarial = crossing(model, IMAGES, LABELS, epsilon=0.2, **given)
    assert adversarial.isfinite().all() and (adversarial != IMAGES).flatten(1).any(1).float().mean() > 0.8


def test_a_defence_whose_own_gradient_is_infinite() -> None:
    """PGD through a differentiable defence, not straight through: the root is in the defence."""
    adversarial = pgd(
        Network(lambda x: x), IMAGES, LABELS, **BALL, step_size=0.05, steps=10, generator=seeded(),
        defence=lambda x, generator: x.sqrt(),
    )  # fmt: skip
    fooled = Network(torch.sqrt)(adversarial).argmax(1) != LABELS
    assert adversarial.isfinite().all() and fooled.float().mean() > 0.7


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_large_gradients_do_not_overflow(dtype: torch.dtype) -> None:
    """In float16 a sum of 16 gradients of 5,000 is too large for a number, and so is a square."""
    model = Network(lambda x: 5000 * x).to(dtype)
    images = IMAGES.to(dtype).clamp(0.3, 0.7)
    wrong = model(images).argmax(1)
    wrong = (wrong + 1) % 3
    for norm in ("sign", "l2"):
        moved = mim(model, images, wrong, epsilon=0.2, step_size=0.1, norm=norm) - images
        assert moved.isfinite().all() and (moved != 0).flatten(1).any(1).all()


def test_cw_with_a_constant_that_grows_without_end() -> None:
    """Fifty steps of the search on a network that nothing fools: ten times as much at each must not overflow."""
    deaf = Network(lambda x: x.detach() * 0 + IMAGES[:1])
    found, success = cw_l2(deaf, IMAGES, deaf(IMAGES).argmax(1), max_steps=2, binary_search_steps=50)
    assert torch.equal(found, IMAGES) and not success.any()


@pytest.mark.parametrize("name", ["step_size", "learning_rate", "initial_const", "confidence", "decay"])
@pytest.mark.parametrize("value", [1e300, math.inf, math.nan, torch.tensor(0.1), "1", True, None])
def test_numbers_too_large_for_float32_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a .*number .*up to 1e\+15; got |from 0 to 1e\+15; got "):
        check_parameters(**{name: value})
    check_parameters(**{name: 1e15})
    adversarial = mim(Network(torch.sqrt), IMAGES, LABELS, epsilon=0.2, step_size=1e15, decay=1e15)
    assert adversarial.isfinite().all()


def test_perceptrons_that_are_not_finite_are_refused() -> None:
    fine = PixelRedraw.fit(steps=5)
    for weight, bias in ((fine.weight * math.nan, fine.bias), (fine.weight, fine.bias + math.inf)):
        with pytest.raises(ValueError, match="weight and bias must be finite"):
            PixelRedraw(weight, bias)
    with pytest.raises(ValueError, match="weight and bias must be finite"):
        fine.load_state_dict({**fine.state_dict(), "bias": fine.bias * math.nan})
    for std in (math.nan, math.inf, 0, -1, "1", None):
        with pytest.raises(ValueError, match="std must be a positive number; got"):
            GaussianNoise(std)  # type: ignore[arg-type]


def test_gradients_that_are_finite_are_followed_to_the_bit() -> None:
    model = Network(lambda x: (x + 0.1).sqrt())
    images = IMAGES.clone().requires_grad_()
    (plain,) = torch.autograd.grad(cross_entropy(model(images), LABELS, reduction="sum"), images)
    with guard(model, LABELS) as guarded:
        assert torch.equal(loss_gradient(guarded, IMAGES, LABELS), plain)


def test_a_training_that_diverges_is_refused_and_leaves_no_network(tmp_path: Path) -> None:
    images, recipe = load("mnist", "train", "sample").take(20), Recipe(learning_rate=1e30)
    with pytest.raises(ValueError, match=rf"must not diverge; in {tmp_path}, in epoch \d+, its loss is (nan|inf)"):
        list(train(images, recipe, transformed(None), [50], 0, tmp_path, progress="none"))
    assert not list(tmp_path.iterdir())


def test_labels_beyond_the_classes_are_refused_before_a_training(tmp_path: Path) -> None:
    images = load("mnist", "train", "sample").take(20)
    beyond = Split.of(images.images, images.labels + 1, "mnist", "train")
    with pytest.raises(ValueError, match="labels must be below 10, the network's classes; got 10"):
        list(train(beyond, Recipe(), transformed(None), [1], 0, tmp_path / "none", progress="none"))
    assert not (tmp_path / "none").exists()
