import math
from functools import partial

import foolbox
import numpy as np
import pytest
import torch
import torchattacks
from torch import nn

from prlib.attacks import Adversary, bim, cw_l2, cw_released, fgsm, mim, pgd, robust_probability, straight_through
from prlib.data import load, to_float

SHAPE = (1, 4, 4)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(weight, bias=None):
    """A linear classifier of images with these weights, classes×pixels."""
    weight = torch.as_tensor(weight, dtype=torch.float32)
    layer = nn.Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.zeros(len(weight)) if bias is None else torch.as_tensor(bias))
    return nn.Sequential(nn.Flatten(), layer)


def random_linear(classes, pixels=16, seed=0, scale=1.0):
    return linear(scale * torch.randn(classes, pixels, generator=seeded(seed)))


def random_images(n, low=0.0, high=1.0, shape=SHAPE, seed=1):
    return low + (high - low) * torch.rand(n, *shape, generator=seeded(seed))


def l2(difference):
    return difference.flatten(1).norm(dim=1)


class RowWise(nn.Module):
    """A small network whose arithmetic is each image's own, so that a batch cannot change even the rounding."""

    def __init__(self, seed=0):
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(12, 16, generator=seeded(seed)) / 2)
        self.out = nn.Parameter(torch.randn(5, 12, generator=seeded(seed + 1)))

    def forward(self, images):
        rows = [torch.tanh(self.hidden @ image.flatten()) for image in images]
        return torch.stack([self.out @ row for row in rows])


ALL = {
    "fgsm": partial(fgsm, epsilon=0.2),
    "bim": partial(bim, epsilon=0.2),
    "mim": partial(mim, epsilon=0.2),
    "mim-l2": partial(mim, epsilon=0.2, step_size=0.3, norm="l2"),
    "pgd": lambda *args, **kwargs: pgd(
        *args, epsilon=0.2, step_size=0.05, steps=5, restarts=3, generator=seeded(), **kwargs
    ),
    "cw": lambda *args, **kwargs: cw_l2(*args, binary_search_steps=3, max_steps=120, **kwargs)[0],
}
every_attack = pytest.mark.parametrize("attack", ALL.values(), ids=ALL)


# Gradient-sign attacks: what they must find on a linear model is known.


@pytest.mark.parametrize(
    "attack",
    [
        partial(fgsm, epsilon=0.1),
        partial(bim, epsilon=0.1),
        partial(bim, epsilon=0.1, step_size=0.02),
        partial(mim, epsilon=0.1),
        partial(pgd, epsilon=0.1, step_size=0.025, steps=8, generator=seeded()),
        partial(pgd, epsilon=0.1, step_size=0.025, steps=8, generator=seeded(), loss="margin"),
    ],
)
@pytest.mark.parametrize("label", [0, 1])
def test_two_linear_classes_give_the_optimal_linf_perturbation(attack, label):
    model = random_linear(2)
    images = random_images(6, 0.2, 0.8)
    weight = model[1].weight.detach().view(2, *SHAPE)
    adversarial = attack(model, images, torch.full((6,), label))
    expected = images + 0.1 * (weight[1 - label] - weight[label]).sign()
    torch.testing.assert_close(adversarial, expected, rtol=0, atol=1e-6)


def momentum_by_hand(weight, images, labels, epsilon, step_size, steps, decay, norm):
    """MIM on logits weight @ x in double precision; the gradient is that of softmax cross-entropy, by hand."""
    weight = weight.double().numpy()
    result = []
    for clean, label in zip(images.double().flatten(1).numpy(), labels.tolist(), strict=True):
        x, g = clean.copy(), np.zeros_like(clean)
        for _ in range(steps):
            logits = weight @ x
            p = np.exp(logits - logits.max())
            p /= p.sum()
            gradient = weight.T @ (p - np.eye(len(weight))[label])
            g = decay * g + gradient / np.abs(gradient).sum()  # Eq. 5
            step = np.sign(g) if norm == "sign" else g / np.sqrt((g**2).sum())  # Eq. 4
            x = np.clip(np.clip(x + step_size * step, clean - epsilon, clean + epsilon), 0, 1)
        result.append(x)
    return torch.from_numpy(np.stack(result)).float().view_as(images)


@pytest.mark.parametrize("norm", ["sign", "l2"])
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("epsilon", "step_size"), [(0.3, 0.06), (0.03, 0.06), (0.3, 0.5)])
def test_mim_is_the_papers_equations(norm, decay, epsilon, step_size):
    model, images = random_linear(4, scale=3.0), random_images(8)
    labels = torch.arange(8) % 4
    adversarial = mim(model, images, labels, epsilon=epsilon, step_size=step_size, steps=7, decay=decay, norm=norm)
    weight = model[1].weight.detach()
    expected = momentum_by_hand(weight, images, labels, epsilon, step_size, 7, decay, norm)
    torch.testing.assert_close(adversarial, expected, rtol=0, atol=2e-5)


def test_bim_is_momentum_without_memory():
    model, images, labels = random_linear(4, scale=3.0), random_images(8), torch.arange(8) % 4
    expected = momentum_by_hand(model[1].weight.detach(), images, labels, 0.2, 0.03, 7, 0.0, "sign")
    adversarial = bim(model, images, labels, epsilon=0.2, step_size=0.03, steps=7)
    torch.testing.assert_close(adversarial, expected, rtol=0, atol=2e-6)


def test_l2_steps_have_the_length_of_the_step():
    adversarial = mim(random_linear(3), random_images(5, 0.4, 0.6), epsilon=1, step_size=0.1, steps=1, norm="l2")
    torch.testing.assert_close(l2(adversarial - random_images(5, 0.4, 0.6)), torch.full((5,), 0.1))


def test_mim_agrees_with_torchattacks_where_no_gradient_is_zero(cnn):
    model, images, labels = cnn
    theirs = torchattacks.MIFGSM(model, eps=0.1, alpha=0.02, steps=5, decay=1.0)(images[:20], labels[:20])
    ours = mim(model, images[:20], labels[:20], epsilon=0.1, step_size=0.02, steps=5)
    # A pixel whose momentum is all rounding may go either way.
    assert (torch.isclose(ours, theirs, atol=1e-5).float().mean() > 0.999) and (ours != images[:20]).any()


@pytest.mark.parametrize("epsilon", [0.03, 0.1, 0.3])
def test_fgsm_and_bim_are_torchattacks_to_the_bit_where_the_mean_is_exact(cnn, epsilon):
    """Its loss is the batch's mean: with 16 images that scales every gradient by a power of two."""
    model, images, labels = cnn[0], cnn[1][:16], cnn[2][:16]
    theirs = torchattacks.FGSM(model, eps=epsilon)(images, labels)
    assert torch.equal(fgsm(model, images, labels, epsilon=epsilon), theirs)
    theirs = torchattacks.BIM(model, eps=epsilon, alpha=0.02, steps=7)(images, labels)
    assert torch.equal(bim(model, images, labels, epsilon=epsilon, step_size=0.02, steps=7), theirs)


@every_attack
def test_images_stay_in_the_box(attack):
    images = random_images(6).round()
    adversarial = attack(RowWise(), images)
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    assert adversarial.dtype == torch.float32 and adversarial.shape == images.shape
    assert not adversarial.requires_grad


@pytest.mark.parametrize("name", ["fgsm", "bim", "mim", "mim-l2", "pgd"])
def test_perturbations_stay_in_the_ball(name):
    images = random_images(6)
    distance = (ALL[name](RowWise(), images) - images).abs().amax((1, 2, 3))
    assert (distance <= 0.2 + 1e-6).all() and (distance > 0.04).all()


# Labels.


@every_attack
def test_labels_default_to_predictions(attack):
    model, images = RowWise(), random_images(6)
    predicted = model(images).argmax(1)
    assert torch.equal(attack(model, images), attack(model, images, predicted))
    assert not torch.equal(attack(model, images), attack(model, images, (predicted + 1) % 5))


# Nothing is left behind.


class Stateful(nn.Module):
    """Layers in mixed modes, a frozen and a live parameter, stale gradients; fails on the given call."""

    def __init__(self, fail_on=None):
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)
        )
        self.calls, self.fail_on = 0, fail_on
        self.train()
        self.layers[0].eval()
        for parameter in self.layers[3].parameters():
            parameter.requires_grad_(False)
        self.layers[5].weight.grad = torch.full((3, 8), 7.0)

    def forward(self, images):
        self.calls += 1
        if self.calls == self.fail_on:
            raise RuntimeError("failed on purpose")
        return self.layers(images)

    def found(self):
        state = {key: value.clone() for key, value in self.state_dict().items()}
        grads = {key: None if p.grad is None else p.grad.clone() for key, p in self.named_parameters()}
        flags = {key: p.requires_grad for key, p in self.named_parameters()}
        return state, grads, flags, {key: module.training for key, module in self.named_modules()}


@every_attack
@pytest.mark.parametrize("fail_on", [None, 1, 2])
def test_the_model_is_left_as_found(attack, fail_on):
    torch.manual_seed(0)
    model = Stateful(fail_on)
    before, random_state = model.found(), torch.get_rng_state()
    images = random_images(4)
    try:
        attack(model, images)
        assert fail_on is None
    except RuntimeError as error:
        assert str(error) == "failed on purpose"
    for old, new in zip(before, model.found(), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0)
    assert torch.equal(random_state, torch.get_rng_state())
    assert torch.equal(images, random_images(4)) and not images.requires_grad


class Scaled(torch.autograd.Function):
    """A layer of its own, which computes the gradients it is asked for."""

    @staticmethod
    def forward(ctx, values, weight):
        ctx.save_for_backward(values, weight)
        return values * weight

    @staticmethod
    def backward(ctx, gradient):
        values, weight = ctx.saved_tensors
        assert ctx.needs_input_grad == (True, False)
        return gradient * weight, gradient * values


@every_attack
def test_no_weight_gradients_are_computed(attack):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.rest = nn.Parameter(torch.ones(SHAPE)), random_linear(3)

        def forward(self, images):
            return self.rest(Scaled.apply(images, self.weight))

    images = random_images(3)
    assert (attack(Layer(), images) != images).any()


@every_attack
def test_attacks_work_where_gradients_are_off(attack):
    images = random_images(3)
    with torch.no_grad():
        inside = attack(RowWise(), images)
    assert torch.equal(inside, attack(RowWise(), images))


# An image's result is its own.


@every_attack
def test_batching_does_not_change_a_bit(attack):
    model, images = RowWise(), random_images(7)
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1])  # some right, some wrong: they finish at different times
    together = attack(model, images, labels)
    for size in (1, 3):
        assert torch.equal(attack(model, images, labels, batch_size=size), together)
    if attack is not ALL["pgd"]:  # whose starts come from one generator
        alone = [attack(model, images[i : i + 1], labels[i : i + 1]) for i in range(7)]
        assert torch.equal(torch.cat(alone), together)


@pytest.mark.parametrize("name", ["fgsm", "bim", "mim"])
@pytest.mark.parametrize("margin", [90, 101])
def test_a_gradient_near_underflow_counts_in_every_batch(name, margin):
    """The other class has a probability of exp(-101), almost float32's smallest number; a 128th of it would be zero."""
    model = linear([[0.0], [-1.0]], bias=[margin + 0.5, 0.0])
    images = torch.full((128, 1, 1, 1), 0.5)
    labels = torch.zeros(128, dtype=torch.int64)
    for n in (1, 2, 128):
        assert (ALL[name](model, images[:n], labels[:n]) < 0.45).all(), n


def test_starts_do_not_depend_on_who_batches():
    attack = partial(pgd, RowWise(), epsilon=0.2, step_size=0.05, steps=3, restarts=3)
    images, generator = random_images(6), seeded()
    split = [attack(part, generator=generator) for part in images.split(2)]
    assert torch.equal(torch.cat(split), attack(images, generator=seeded()))


# Zero gradients.


class Dead(nn.Module):
    """Flat for images whose first pixel is dark; linear otherwise. Optionally flat for all on its first calls."""

    def __init__(self, flat_calls=0):
        super().__init__()
        self.model, self.left = random_linear(3), flat_calls

    def forward(self, images):
        self.left -= 1
        alive = (images[:, 0, 0, 0] > 0.1) & (self.left < 0)
        return self.model(images * alive[:, None, None, None])


@every_attack
def test_a_flat_image_neither_fails_nor_spoils_the_others(attack):
    images = random_images(5, 0.3, 0.7)
    images[2, 0, 0, 0] = 0.0
    adversarial = attack(Dead(), images)
    assert adversarial.isfinite().all()
    if attack is not ALL["pgd"]:  # whose random start moves it
        assert torch.equal(adversarial[2], images[2])
    assert ((adversarial != images).flatten(1).any(1)[[0, 1, 3, 4]]).all()


@pytest.mark.parametrize("norm", ["sign", "l2"])
def test_mim_moves_on_after_zero_gradients(norm):
    images, labels = random_images(4, 0.4, 0.6), torch.tensor([0, 1, 2, 0])
    attack = partial(mim, images=images, labels=labels, epsilon=0.3, norm=norm)
    late, plain = attack(Dead(flat_calls=2), steps=5), attack(random_linear(3), steps=3)
    torch.testing.assert_close(late, plain)
    assert (l2(late - images) > 0.05).all()


# PGD: restarts, random defences.


class Basins(nn.Module):
    """One pixel in two basins: uphill leads to a correct classification above 0.4, to a wrong one below."""

    def forward(self, images):
        x = images.flatten(1)[:, :1]
        wrong = torch.where(x < 0.4, 1 - 10 * x, 0.5 * x - 2)
        return torch.cat([torch.zeros_like(x), wrong], dim=1)


def test_restarts_keep_the_best_end():
    images, labels = torch.full((200, 1, 1, 1), 0.5), torch.zeros(200, dtype=torch.int64)
    attack = partial(pgd, Basins(), images, labels, epsilon=0.5, step_size=0.1, steps=10)
    for restarts in (1, 5):
        fooled = Basins()(attack(restarts=restarts, generator=seeded())).argmax(1) == 1
        expected = 1 - 0.6**restarts
        assert abs(fooled.float().mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / 200)


def flip_pixels(images, generator):
    """Multiplies every pixel by -1 with probability 0.3: the expected factor is 0.4, its sign +1."""
    return images * (1 - 2 * (torch.rand(images.shape, generator=generator) < 0.3).to(images.dtype))


def test_eot_finds_the_sign_of_the_expected_gradient():
    weight = torch.linspace(-1, 1, 16)
    model, images = linear(torch.stack([-weight, weight]) / 100), torch.full((3, *SHAPE), 0.5)
    labels = torch.tensor([0, 1, 0])
    expected = torch.tensor([1.0, -1, 1])[:, None, None, None] * weight.sign().view(SHAPE)
    # A step of twice epsilon ends on the same face wherever it started.
    attack = partial(pgd, model, images, labels, epsilon=0.1, step_size=0.2, steps=1, defence=flip_pixels)
    right = {
        draws: ((attack(draws=draws, generator=seeded()) - images).sign() == expected).float().mean()
        for draws in (1, 301)
    }
    assert right[301] == 1 and 0.4 < right[1] < 0.95


def test_eot_tiles_its_draws_into_batches_of_the_allowed_size():
    model, sizes = random_linear(2), []
    model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    attack = partial(pgd, model, random_images(10), epsilon=0.1, step_size=0.1, steps=2, generator=seeded())
    attack(draws=5, batch_size=20, defence=flip_pixels)
    assert sizes == 4 * [20] + 4 * [20] + 4 * [10]  # prediction, two steps, judgement


def posterise(images, generator):
    """A random staircase: its derivative is zero almost everywhere."""
    return ((images * 8 + torch.rand(images.shape, generator=generator)).floor() / 8).clamp(0, 1)


def test_straight_through_is_the_preprocessor_with_the_identity_behind_it():
    images, factor = random_images(4).requires_grad_(), random_images(4, seed=5)
    for preprocess in (posterise, lambda images, generator: images**2):
        through = straight_through(preprocess)(images, seeded())
        assert torch.equal(through, preprocess(images, seeded()))
        (gradient,) = torch.autograd.grad((through * factor).sum(), images)
        assert torch.equal(gradient, factor)


def test_straight_through_defeats_a_staircase():
    model, images = random_linear(2), random_images(6, 0.2, 0.8)
    labels = model(images).argmax(1)
    weight = model[1].weight.detach().view(2, *SHAPE)
    attack = partial(pgd, model, images, labels, epsilon=0.1, step_size=0.05, steps=6, draws=4)
    adversarial = attack(generator=seeded(), defence=straight_through(posterise))
    expected = images + 0.1 * (weight[1 - labels] - weight[labels]).sign()
    torch.testing.assert_close(adversarial, expected, rtol=0, atol=1e-6)


def test_robust_probability_is_the_mean_over_fresh_draws():
    def blackout(images, generator):  # all of an image, with a probability that is its first pixel
        return images * (torch.rand(len(images), 1, 1, 1, generator=generator) >= images[:, :1, :1, :1])

    model = linear([[1.0] * 16, [0.0] * 16], bias=[-0.5, 0.0])  # class 0 is what is not black
    chance = torch.tensor([0.1, 0.5, 0.9]).repeat_interleave(10)
    images = torch.full((30, *SHAPE), 1.0)
    images[:, 0, 0, 0] = chance
    generator = seeded()
    judge = partial(robust_probability, model, images, defence=blackout, generator=generator)
    zeros = torch.zeros(30, dtype=torch.int64)
    first, second = judge(zeros, draws=100), judge(zeros, draws=100)
    assert not torch.equal(first, second)
    for value in (first, second, 1 - judge(zeros + 1, draws=100)):
        assert ((value - (1 - chance)).abs() < 5 * (chance * (1 - chance) / 100).sqrt()).all()
    assert robust_probability(model, images, zeros, draws=2, generator=generator).tolist() == [1.0] * 30


# CW-L2.

FINE = {"binary_search_steps": 9, "initial_const": 0.1, "max_steps": 250, "learning_rate": 0.03}


@pytest.mark.parametrize(
    ("classes", "size", "const", "confidence"),
    [(2, 5, 10, 0), (2, 12, 0.001, 0), (5, 5, 0.1, 0.5), (10, 12, 0.1, 0.5), (10, 28, 0.001, 0), (10, 28, 0.1, 0)],
)
@pytest.mark.slow
def test_cw_is_optimal_on_linear_models(classes, size, const, confidence):
    model = random_linear(classes, size * size)
    images = random_images(10, 0.4, 0.6, (1, size, size))
    labels = model(images).argmax(1)
    weight, logits = model[1].weight.detach(), model(images).detach()
    # To the hyperplane where another class is ahead by the confidence, the nearest of them.
    gap = logits.gather(1, labels[:, None]) - logits + confidence
    distances = gap / (weight[labels][:, None] - weight).norm(dim=2)
    optimum = distances.scatter(1, labels[:, None], math.inf).amin(1)
    adversarial, success = cw_l2(model, images, labels, confidence=confidence, **FINE | {"initial_const": const})
    assert success.all() and (adversarial > 0.001).all() and (adversarial < 0.999).all()
    assert (model(adversarial).argmax(1) != labels).all()
    ratio = l2(adversarial - images) / optimum
    assert ratio.min() > 0.999 and ratio.max() < 1.01


@pytest.mark.slow
def test_cw_moves_pixels_that_are_black_or_white():
    model = random_linear(2, 64)
    images = random_images(10, shape=(1, 8, 8)).round()
    labels = model(images).argmax(1)
    weight, logits = model[1].weight.detach().double(), model(images).detach().double()
    optimum = []
    for image, label, scores in zip(images.double().flatten(1), labels, logits, strict=True):
        normal, gap = weight[1 - label] - weight[label], scores[label] - scores[1 - label]
        # Within the box the optimum is the normal times a multiplier, clipped: bisect for the multiplier.
        low, high = 0.0, 100.0
        for _ in range(100):
            change = ((low + high) / 2 * normal).clamp(-image, 1 - image)
            low, high = ((low + high) / 2, high) if change @ normal < gap else (low, (low + high) / 2)
        optimum.append(change.norm())
    adversarial, success = cw_l2(model, images, labels, **FINE)
    assert success.all() and (model(adversarial).argmax(1) != labels).all()
    ratio = l2(adversarial - images) / torch.stack(optimum)
    assert ratio.min() > 0.999 and ratio.max() < 1.02


@pytest.mark.slow
def test_cw_does_not_care_where_the_logits_lie():
    model, images = random_linear(4), random_images(8, 0.3, 0.7)
    shifted = linear(model[1].weight.detach(), bias=[-50.0] * 4)
    assert (shifted(images) < 0).all()
    labels = model(images).argmax(1)
    (plain, success), (negative, negative_success) = (cw_l2(m, images, labels, **FINE) for m in (model, shifted))
    assert success.all() and negative_success.all()
    torch.testing.assert_close(l2(negative - images), l2(plain - images), rtol=0.01, atol=0)


def test_cw_returns_misclassified_images_as_they_are():
    model, images = random_linear(3), random_images(9)
    labels = model(images).argmax(1)
    labels[::2] = (labels[::2] + 1) % 3
    adversarial, success = cw_l2(model, images, labels, max_steps=200)
    assert success.all() and torch.equal(adversarial[::2], images[::2])
    assert (adversarial != images).flatten(1).any(1)[1::2].all()
    adversarial, success = cw_l2(model, images[::2], labels[::2], max_steps=200)
    assert success.all() and torch.equal(adversarial, images[::2])


def test_cw_returns_the_original_where_it_fails():
    weight, images = [[0.0] * 16, [4.0] + [0.0] * 15], torch.zeros(3, *SHAPE)
    adversarial, success = cw_l2(linear(weight, bias=[0.0, -5.0]), images, max_steps=300)  # out of the box
    assert not success.any() and torch.equal(adversarial, images)
    adversarial, success = cw_l2(linear(weight, bias=[0.0, -2.0]), images, max_steps=300)
    assert success.all() and (adversarial[:, 0, 0, 0] > 0.5).all()


def test_cw_tells_its_failures_from_its_successes():
    images = random_images(5, 0.3, 0.7)
    images[2, 0, 0, 0] = 0.0
    adversarial, success = cw_l2(Dead(), images, max_steps=300)
    assert success.tolist() == [True, True, False, True, True]
    assert (adversarial != images).flatten(1).any(1).tolist() == success.tolist()


def test_cw_search_finds_the_constant():
    model, images = random_linear(3), random_images(6, 0.3, 0.7)
    attack = partial(cw_l2, model, images, initial_const=1e-5, max_steps=200)
    assert not attack()[1].any()
    adversarial, success = attack(binary_search_steps=9)
    assert success.all() and (model(adversarial).argmax(1) != model(images).argmax(1)).all()


def test_cw_confidence_is_the_margin():
    model, images = random_linear(3), random_images(6, 0.3, 0.7)
    labels = model(images).argmax(1)
    adversarial, success = cw_l2(model, images, labels, confidence=1.0, max_steps=300)
    logits = model(adversarial)
    margin = logits.gather(1, labels[:, None]) - logits.scatter(1, labels[:, None], -math.inf).amax(1, keepdim=True)
    assert success.all() and (margin < -1 + 1e-5).all() and (margin > -1.5).all()


def test_images_that_are_done_leave_the_batch(cnn):
    model, images, labels = cnn
    sizes = []
    hook = model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    cw_l2(model, images[:20], labels[:20])
    hook.remove()
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) > 2
    assert sum(sizes) < 0.6 * 20 * 1000


# Against an independent implementation, on a trained network.


@pytest.fixture(scope="module")
def cnn():
    """A small network trained on real images, test images that it gets right, and their labels."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 8, 2, 3), nn.ReLU(), nn.Conv2d(8, 16, 6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(400, 10)
    )
    train, test = (load("mnist", split, root="sample") for split in ("train", "test"))
    images, optimizer = to_float(train.images), torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(6):
        for batch in torch.randperm(len(train)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), train.labels[batch], label_smoothing=0.1).backward()
            optimizer.step()
    model.eval().requires_grad_(False)
    images, labels = to_float(test.images), test.labels
    right = model(images).argmax(1) == labels
    assert right.float().mean() > 0.8
    return model, images[right][:24], labels[right][:24]


@pytest.mark.parametrize(
    ("const", "searches", "steps", "rate"), [(10.0, 1, 400, 0.1), (1.0, 4, 120, 0.05), (0.01, 4, 120, 0.1)]
)
@pytest.mark.slow
def test_cw_is_as_good_as_foolbox(cnn, const, searches, steps, rate):
    model, images, labels = cnn
    ours, success = cw_l2(
        model,
        images,
        labels,
        initial_const=const,
        binary_search_steps=searches,
        max_steps=steps,
        learning_rate=rate,
    )
    reference = foolbox.attacks.L2CarliniWagnerAttack(searches, steps, rate, 0, const)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, theirs, their_success = reference(wrapped, images, labels, epsilons=None)
    assert torch.equal(model(ours).argmax(1) != labels, success)
    assert success.float().mean() >= their_success.float().mean() > 0.5
    both = success & their_success
    assert l2(ours - images)[both].mean() <= 1.01 * l2(theirs - images)[both].mean()


@pytest.mark.parametrize("steps", [100, 400])
def test_cw_as_released_is_foolboxs_port_of_cleverhans(cnn, steps):
    """foolbox keeps CleverHans' scale and its common stop: in batches of ten, the same images at the same distances."""
    model, images, labels = cnn
    images, labels = images[:20], labels[:20]
    ours = cw_released(model, images, labels, max_steps=steps)
    reference = foolbox.attacks.L2CarliniWagnerAttack(1, steps, 0.1, 0, 10.0)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    for part in (slice(0, 10), slice(10, 20)):
        _, theirs, success = reference(wrapped, images[part], labels[part], epsilons=None)
        assert torch.equal(model(ours[part]).argmax(1) != labels[part], success) and success.float().mean() > 0.5
        distances = (l2((adversarial - images[part])[success]) for adversarial in (ours[part], theirs))
        torch.testing.assert_close(*distances, rtol=0.02, atol=0.01)


@pytest.mark.slow
def test_cw_as_released_stops_a_batch_together(cnn):
    """Alone, an image goes on while its own loss falls; beside others it ends when theirs do."""
    model, images, labels = cnn
    together, alone = (cw_released(model, images[:5], labels[:5], batch_size=n) for n in (5, 1))
    assert not torch.equal(together, alone)


@pytest.mark.slow
def test_batching_a_convolutional_network(cnn):
    model, images, labels = cnn
    for name in ("fgsm", "bim", "mim", "pgd"):
        whole = ALL[name](model, images, labels)
        parts = ALL[name](model, images, labels, batch_size=7)
        # Convolutions round differently in other batches, which can turn the sign of a vanishing gradient.
        assert torch.isclose(parts, whole, atol=1e-5).float().mean() > 0.999
    (whole, success), (parts, part_success) = (
        cw_l2(model, images, labels, max_steps=100, batch_size=n) for n in (128, 7)
    )
    assert torch.equal(success, part_success)
    torch.testing.assert_close(l2(parts - images).mean(), l2(whole - images).mean(), rtol=0.01, atol=0)


# Bad input.

GOOD = {
    fgsm: {"epsilon": 0.1},
    bim: {"epsilon": 0.1},
    mim: {"epsilon": 0.1},
    pgd: {"epsilon": 0.1, "step_size": 0.1, "steps": 2, "generator": None},
    cw_l2: {},
    robust_probability: {"draws": 1, "generator": None},
}
LABELS = torch.zeros(2, dtype=torch.int64)


def untouchable():
    model = random_linear(2)
    model.register_forward_pre_hook(lambda module, args: pytest.fail("the model was called"))
    return model


@pytest.mark.parametrize(
    ("attack", "name", "value"),
    [(attack, "epsilon", value) for attack in (fgsm, bim, mim, pgd) for value in (-0.1, 1.1, math.nan, "0.1", None)]
    + [(attack, "step_size", value) for attack in (bim, mim, pgd) for value in (0, -1.0, math.inf)]
    + [(attack, "steps", value) for attack in (bim, mim, pgd) for value in (0, 2.5)]
    + [(attack, "batch_size", 0) for attack in GOOD]
    + [(pgd, "restarts", 0), (pgd, "draws", 0), (robust_probability, "draws", 0)]
    + [(mim, "decay", -0.5), (mim, "norm", "l1"), (cw_l2, "confidence", -1), (cw_l2, "initial_const", 0)]
    + [(cw_l2, "binary_search_steps", 0), (cw_l2, "max_steps", 0), (cw_l2, "learning_rate", 0.0)],
)
def test_bad_parameters_are_refused_by_name(attack, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be .*; got "):
        attack(untouchable(), random_images(2), LABELS, **GOOD[attack] | {name: value})


@pytest.mark.parametrize("attack", GOOD)
@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (random_images(2) * 1.5, LABELS),
        (random_images(2) - 0.5, LABELS),
        (random_images(2) * math.nan, LABELS),
        (random_images(2)[:, 0], LABELS),
        ((random_images(2) * 255).byte(), LABELS),
        (random_images(0), LABELS[:0]),
        (random_images(2), LABELS[:1]),
        (random_images(2), LABELS.int()),
        (random_images(2), LABELS[:, None]),
        (random_images(2), LABELS - 1),
    ],
)
def test_bad_images_and_labels_are_refused(attack, images, labels):
    with pytest.raises(ValueError, match=r"images|labels"):
        attack(untouchable(), images, labels, **GOOD[attack])


def test_an_adversary_starts_at_random_and_climbs_to_the_known_optimum():
    """On two linear classes the optimum is the sign of the weights' difference; seven steps of ε/4 reach it."""
    model, images = random_linear(2), random_images(20, 0.3, 0.7)
    labels = torch.arange(20) % 2
    weight = model[1].weight.detach()
    for adversary in (Adversary(0.1, 0.025, 8), Adversary(0.1, 0.2, 1)):
        state = torch.get_rng_state()
        attacked = adversary(model, images, labels, seeded(), 1.0)
        sign = (weight[1 - labels] - weight[labels]).sign().view_as(images)
        assert torch.allclose(attacked, images + 0.1 * sign, atol=1e-6)
        assert torch.equal(torch.get_rng_state(), state) and all(p.grad is None for p in model.parameters())
    growing = Adversary(0.1, 0.2, 1, warm_up=2)
    for epoch, share in ((0.5, 0.25), (2.0, 1.0), (7.0, 1.0)):
        attacked = growing(model, images, labels, seeded(), epoch)
        assert torch.allclose(attacked, images + share * 0.1 * sign, atol=1e-6)
    small = Adversary(0.1, 0.001, 1)
    assert not torch.equal(small(model, images, labels, seeded(1), 1.0), small(model, images, labels, seeded(2), 1.0))
