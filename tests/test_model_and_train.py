"""The network against CleverHans' sizes and PyTorch's own layers; training against a plain loop and a kill -9."""

import copy
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from prlib import winograd
from prlib.attacks import Adversary
from prlib.data import load
from prlib.fast import SMALLEST_BATCH, FastCNN
from prlib.files import save_tensors
from prlib.model import PaperCNN
from prlib.redraw import PixelRedraw
from prlib.snapshot import Snapshot, load_model
from prlib.train import Recipe, Trainer, checkpoint_path, train, transformed


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def few():
    return load("mnist", "train", "sample").take(150, seed=0)


@pytest.mark.parametrize(("channels", "size", "parameters"), [(1, 28, 710_218), (1, 32, 714_058), (3, 32, 722_250)])
def test_table_1_has_the_released_codes_sizes(channels, size, parameters):
    # 64 8×8×c + 64, 128 6×6×64 + 128, 128 5×5×128 + 128, 10 d + 10 with d = 128 for 28 pixels and 512 for 32
    model = PaperCNN(channels, size)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 10)


def has_a_unit_near_zero(model, images):
    """For each image whether rounding to float32 could switch a ReLU, which no gradient survives unchanged."""
    near, x = torch.zeros(len(images), dtype=torch.bool), images.double()
    with torch.no_grad():
        for layer in copy.deepcopy(model).double():
            if isinstance(layer, nn.ReLU):
                near |= (x.abs() < 3e-5).flatten(1).any(1)
            x = layer(x)
    return near


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (1, 32), (3, 32), (2, 30), (1, 36)])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_the_fast_network_computes_what_the_plain_one_computes(channels, size, dtype, error):
    model, generator = FastCNN(channels, size).to(dtype), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in (model[0], model[2], model[4], model[7]):
            layer.bias.normal_(0, 0.1, generator=generator)
    images = torch.rand(80, channels, size, size, dtype=dtype, generator=generator)
    images = images[~has_a_unit_near_zero(model, images)]
    labels = torch.arange(len(images)) % 10
    assert len(images) >= 10

    def all_of(forward):
        inputs = images.clone().requires_grad_()
        logits = forward(inputs)
        loss = nn.functional.cross_entropy(logits, labels)
        return [logits, *torch.autograd.grad(loss, [inputs, *model.parameters()])]

    ours, layers = all_of(model), all_of(lambda x: nn.Sequential.forward(model, x))
    assert (ours[0] - layers[0]).norm() < error * layers[0].norm()
    for one, other in zip(ours[1:], layers[1:], strict=True):
        bound = error if dtype == torch.float64 else 10 * error
        assert one.shape == other.shape and (one - other).norm() < bound * other.norm()


def test_the_network_can_be_trained_after_inference():
    model, images = FastCNN(), torch.rand(SMALLEST_BATCH, 1, 28, 28)
    winograd._transforms.cache_clear()
    with torch.inference_mode():
        model(images)
    model(images).sum().backward()
    assert model[2].weight.grad.abs().sum() > 0


def test_few_images_and_other_precisions_take_the_layers_one_by_one():
    model = FastCNN().eval()
    images = torch.rand(SMALLEST_BATCH, 1, 28, 28)
    assert model(images[:0]).shape == (0, 10)
    assert torch.equal(model(images[1:]), nn.Sequential.forward(model, images[1:]))
    assert not torch.equal(model(images), nn.Sequential.forward(model, images))
    images = images.bfloat16()
    assert torch.equal(model.bfloat16()(images), nn.Sequential.forward(model, images))


def frozen_and_used():
    """A network whose transformed weights are known already, and images."""
    model, images = FastCNN().eval().requires_grad_(False), torch.rand(20, 1, 28, 28)
    model(images)
    return model, images


def fused_adam(model):
    """A step of the training's optimiser, which torch's version counters miss, without a forward pass before it."""
    for parameter in model.requires_grad_(True).parameters():
        parameter.grad = torch.rand_like(parameter) - 0.5
    torch.optim.Adam(model.parameters(), 0.01, fused=True).step()
    model.requires_grad_(False)


CHANGES = {
    "a step of Adam": fused_adam,
    "in place": lambda model: [parameter.mul_(1.1) for parameter in model.parameters()],
    "by .data, in place": lambda model: [parameter.data.mul_(1.1) for parameter in model.parameters()],
    "other memory": lambda model: [setattr(p, "data", p.data * 1.1) for p in model.parameters()],
    "loaded": lambda model: model.load_state_dict(FastCNN(seed=1).state_dict()),
    "assigned": lambda model: model.load_state_dict(FastCNN(seed=1).state_dict(), assign=True),
    "to half and back": lambda model: model.half().float(),
    "double": lambda model: model.double(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_weights_are_transformed_again(change):
    model, images = frozen_and_used()
    twin = copy.deepcopy(model)
    before = model(images)
    change(model)
    images = images.to(model[0].weight.dtype)
    plain = PaperCNN().to(images.dtype).eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(images), plain(images), rtol=1e-3, atol=1e-4)
    if change not in (CHANGES["to half and back"], CHANGES["double"]):  # these change less than that
        assert not torch.allclose(model(images), before, rtol=1e-3, atol=1e-3)
    assert torch.equal(twin(images.float()), before)


def test_frozen_weights_are_transformed_once_and_give_the_same_bits(monkeypatch):
    model, images = frozen_and_used()
    with torch.enable_grad():
        fresh = model.requires_grad_(True)(images)
    calls, kernels = [], winograd.kernels
    monkeypatch.setattr(winograd, "kernels", lambda *arguments: calls.append(1) or kernels(*arguments))
    assert torch.equal(model.requires_grad_(False)(images), fresh) and not calls
    model.requires_grad_(True)(images)
    assert len(calls) == 2
    assert torch.equal(copy.deepcopy(model).requires_grad_(False)(images), fresh) and len(calls) == 4


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (1, 32), (3, 32)])
@pytest.mark.parametrize("wanted", [range(40), range(0, 40, 7), [3], []], ids=len)
def test_frozen_weights_give_images_the_gradient_of_the_layers(channels, size, wanted):
    """Of every image, of some and of none: a step of an attack often asks for few."""
    model, generator = FastCNN(channels, size).double().eval(), torch.Generator().manual_seed(0)
    images = torch.rand(40, channels, size, size, dtype=torch.float64, generator=generator)
    factor = torch.zeros(40, 10, dtype=torch.float64)
    factor[list(wanted)] = torch.randn(len(wanted), 10, dtype=torch.float64, generator=generator)

    def slope(forward, frozen):
        inputs = images.clone().requires_grad_()
        model.requires_grad_(not frozen)
        return torch.autograd.grad((forward(inputs) * factor).sum(), inputs)[0]

    ours = slope(model, frozen=True)
    layers = slope(lambda x: nn.Sequential.forward(model, x), frozen=True)
    assert (ours - layers).norm() <= 1e-12 * layers.norm() and ours.is_contiguous()
    assert (ours - slope(model, frozen=False)).norm() <= 1e-13 * layers.norm()
    assert ours.flatten(1).any(1).nonzero().squeeze(1).tolist() == list(wanted)


def test_the_images_gradient_has_no_gradient_of_its_own():
    model, images = frozen_and_used()
    inputs = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(inputs).square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_weights_transformed_in_inference_serve_an_attack_afterwards():
    model, images = FastCNN().eval().requires_grad_(False), torch.rand(20, 1, 28, 28)
    with torch.inference_mode():
        model(images)
    inputs = images.requires_grad_()
    (slope,) = torch.autograd.grad(model(inputs).sum(), inputs)
    assert slope.abs().sum() > 0


def test_away_from_the_cpu_the_layers_compute_themselves():
    assert FastCNN().to("meta")(torch.empty(2, 1, 28, 28, device="meta")).shape == (2, 10)


def test_normal_and_glorot_initialisation_have_the_right_spread():
    normal, glorot = PaperCNN(3, 32, "normal", 1), PaperCNN(3, 32, "glorot", 1)
    for ours, other in zip(normal, glorot, strict=True):
        if isinstance(ours, nn.Conv2d | nn.Linear):
            fan_in = ours.weight[0].numel()
            fan_out = ours.weight.shape[0] * ours.weight[0, 0].numel()
            assert ours.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.05)
            assert other.weight.abs().max().item() == pytest.approx((6 / (fan_in + fan_out)) ** 0.5, rel=0.01)
            assert other.weight.std().item() == pytest.approx((2 / (fan_in + fan_out)) ** 0.5, rel=0.05)
            assert ours.bias.eq(0).all() and other.bias.eq(0).all()


@pytest.mark.parametrize(
    ("arguments", "named"), [((0, 28), "0"), ((1, 27), "27"), ((1, 20), "20"), ((1, 28, "he"), "he")]
)
def test_bad_networks_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        PaperCNN(*arguments)


def plain_training(split, recipe, transform, epochs, seed):
    """The same training as a loop that anyone would write, to compare weights with."""
    model = FastCNN(1, 28, recipe.init, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
    generator = torch.Generator().manual_seed(seed)
    targets = nn.functional.one_hot(split.labels, 10) * (1 - recipe.label_smoothing) + recipe.label_smoothing / 10
    for _ in range(epochs):
        order = torch.randperm(len(split), generator=generator)
        for batch in (order[:128], order[-128:]):  # 150 images: the second batch takes 106 again
            x = split.images[batch].float() / 255
            if isinstance(transform, Adversary):  # one step: by hand
                start = torch.rand(x.shape, generator=generator) * 2 - 1
                start = (x + transform.epsilon * start).clamp(0, 1).requires_grad_()
                nn.functional.cross_entropy(model(start), split.labels[batch]).backward()
                moved = start.detach() + transform.step_size * start.grad.sign()
                x = moved.clamp(x - transform.epsilon, x + transform.epsilon).clamp(0, 1)
            elif transform:
                x = transform(x, generator)
            loss = -(targets[batch] * model(x).log_softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


AS_THEY_ARE = transformed(None)
TRANSFORMS = [None, PixelRedraw.fit(k=2, steps=100, init="normal"), Adversary(0.1, 0.125, 1)]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=["plain", "redrawn", "adversarial"])
def test_training_is_what_a_plain_loop_does(few, tmp_path, transform):
    expected = plain_training(few, Recipe(), transform, 2, seed=3)
    prepare = transform if isinstance(transform, Adversary) else transformed(transform)
    (_, model), *_ = train(few, Recipe(), prepare, [2], 3, tmp_path, progress="none")
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)  # their loss is rounded differently


@pytest.mark.parametrize("autocast", ["float32", "bfloat16"])
def test_epochs_are_snapshots_of_one_training(few, tmp_path, autocast):
    how = few, Recipe(autocast=autocast), AS_THEY_ARE
    at_once = dict(train(*how, [1, 3], 0, tmp_path / "a", progress="none"))
    alone = dict(train(*how, [3], 0, tmp_path / "b", progress="none"))
    later = dict(train(*how, [1], 0, tmp_path / "b", progress="none"))  # before b's checkpoint
    for one, other in ((at_once[3], alone[3]), (at_once[1], later[1])):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    assert not torch.equal(at_once[1][0].weight, at_once[3][0].weight)


def test_a_snapshot_knows_what_it_was_trained_on(few, tmp_path):
    ((_, model),) = train(few, Recipe(), AS_THEY_ARE, [1], 0, tmp_path, progress="none", name="mine")
    snapshot = Snapshot.read(tmp_path / "epoch-0001.safetensors")
    assert snapshot.source == "sample" and snapshot.seconds > 0 and not model.training
    assert (snapshot.dataset, snapshot.training, snapshot.epoch) == ("mnist", "mine", 1)
    again = load_model(tmp_path / "epoch-0001.safetensors")
    assert torch.equal(again[0].weight, model[0].weight)


def test_damaged_snapshots_are_refused_by_name(few, tmp_path):
    ((_, model),) = train(few, Recipe(), AS_THEY_ARE, [1], 0, tmp_path, progress="none")
    path = tmp_path / "epoch-0001.safetensors"
    whole = path.read_bytes()
    meta = Snapshot.read(path).metadata
    with torch.no_grad():
        model[7].bias[3] = torch.nan
    save_tensors(model.state_dict(), path, meta)
    with pytest.raises(ValueError, match=r"epoch-0001\.safetensors holds weights that are not finite; delete it"):
        load_model(path)
    for data in (b"", whole[:100]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"epoch-0001\.safetensors is not a snapshot of a network"):
            load_model(path)
    for damage in ({"dataset": "svhn"}, {"seconds": "long"}, {"epoch": "two"}):
        save_tensors(model.state_dict(), path, meta | damage)
        with pytest.raises(ValueError, match=rf"is not a snapshot of a network .*{min(damage.values())}"):
            load_model(path)


@pytest.mark.parametrize("epochs", [[], [0, 1]])
def test_epochs_start_at_one(few, tmp_path, epochs):
    with pytest.raises(ValueError, match="positive"):
        list(train(few, Recipe(), AS_THEY_ARE, epochs, 0, tmp_path))


class Products(TorchDispatchMode):
    """Notes which precisions matrices and images are multiplied in."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ("mm", "addmm", "bmm", "convolution", "convolution_backward"):
            self.seen.update([args[0].dtype])
        return function(*args, **kwargs or {})


@pytest.mark.parametrize(("name", "size"), [("mnist", 28), ("cifar10", 32), ("mnist", 30)])  # the last layer by layer
def test_a_step_in_bfloat16_multiplies_in_bfloat16_and_updates_in_float32(tmp_path, name, size):
    split = load(name, "train", "sample").take(130, seed=0)
    split = replace(split, images=nn.functional.pad(split.images, (0, size - split.images.shape[-1]) * 2))
    losses = {}
    for autocast, precision in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        trainer = Trainer(split, Recipe(autocast=autocast), AS_THEY_ARE, 0, tmp_path / autocast, "cpu", 1, "")
        with Products() as products:
            losses[autocast] = trainer.step(split.images[:128].float() / 255, split.labels[:128])
        assert products.seen.keys() == {precision} and products.seen.total() >= 9
        state = [value for one in trainer.optimizer.state_dict()["state"].values() for value in one.values()]
        assert {value.dtype for value in [losses[autocast], *trainer.model.parameters(), *state]} == {torch.float32}
    # bfloat16 has 8 bits, and the fast way's transforms lose some of them: a logit is off by some hundredths.
    assert 0 < abs(losses["bfloat16"] / losses["float32"] - 1) < 0.02


def test_under_autocast_a_network_that_learns_nothing_is_pytorchs(few):
    """Also afterwards, and the gradient of an attack, though the fast way keeps what it has transformed."""
    fast, plain = FastCNN().eval(), PaperCNN().eval()
    plain.load_state_dict(fast.state_dict())
    images = few.images[:20].float() / 255
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(fast(images), plain(images))
        torch.testing.assert_close(fast(images), plain(images), rtol=1e-4, atol=1e-5)
    gradients = []
    for network in (fast.requires_grad_(False), plain.requires_grad_(False)):
        inputs = images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            network(inputs).float().square().sum().backward()
        gradients.append(inputs.grad)
    assert torch.equal(*gradients)


def test_an_unknown_precision_is_refused(few, tmp_path):
    with pytest.raises(ValueError, match="autocast must be float32 or bfloat16; got 'int8'"):
        next(train(few, Recipe(autocast="int8"), AS_THEY_ARE, [1], 0, tmp_path))


# Forks itself for every folder that it reads, so that all trainings share its imports.
SCRIPT = """
import os, sys, torch
from pathlib import Path
from prlib import train
from prlib.data import load
from prlib.redraw import PixelRedraw
torch.set_num_threads(1)
train.CHECKPOINT_SECONDS = 0.0
torch.optim.Adam([torch.zeros(1)])  # its first use imports for longer than the kills wait
split = load("mnist", "train", "sample").take(150, seed=0)
prepare = train.transformed(PixelRedraw.fit(k=2, steps=50, init="normal"))
for folder in sys.stdin:
    if process := os.fork():
        print(process, flush=True)
        print(os.waitpid(process, 0)[1], flush=True)
        continue
    list(train.train(split, train.Recipe(), prepare, [2, 8], 0, Path(folder.strip()), progress="none"))
    os._exit(0)
"""


@pytest.mark.slow
def test_a_training_killed_at_any_moment_ends_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command, pipe = [sys.executable, "-c", SCRIPT], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as forking:

        def begin(folder: Path) -> int:
            print(folder, file=forking.stdin)
            return int(forking.stdout.readline())

        def end() -> int:
            return int(forking.stdout.readline())

        def checkpoint() -> int:
            path = checkpoint_path(killed)
            return path.stat().st_mtime_ns if path.exists() else 0

        begin(whole)
        assert end() == 0
        # There is a checkpoint after each of the 8 epochs; a kill falls into the next epoch, or into its writing.
        for epochs, seconds in ((1, 0.0), (2, 0.01), (1, 0.02), (1, 0.04)):
            process, deadline = begin(killed), time.monotonic() + 60
            for _ in range(epochs):
                before = checkpoint()
                while checkpoint() == before and time.monotonic() < deadline:
                    time.sleep(0.001)
                assert checkpoint() != before
            time.sleep(seconds)
            os.kill(process, signal.SIGKILL)
            assert end() == signal.SIGKILL
        assert checkpoint()
        begin(killed)
        assert end() == 0
    for name in ("epoch-0002", "epoch-0008"):
        one, other = (load_model(folder / f"{name}.safetensors") for folder in (whole, killed))
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
