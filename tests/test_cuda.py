"""A GPU beside the CPU. Needs neither the datasets nor conftest, so that it runs on a bare machine with a GPU.

What compares two implementations of float32 is also run on the CPU against the plain layers, whose rounding differs
from the fast path's as a GPU's does: that holds the tolerances.
"""

import copy
from types import MethodType

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from prlib.attacks import bim, cw_l2, fgsm, mim, pgd
from prlib.data import load, to_float, vouched_for
from prlib.experiment import Experiment, Training
from prlib.profiles import default_attack, default_defence, default_recipe
from prlib.redraw import PixelRedraw
from prlib.run import Context, run
from prlib.snapshot import Snapshot, load_model
from prlib.store import Store
from prlib.train import Recipe, Trainer, progress_bar, train, transformed

needs_a_gpu = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that PyTorch can use"),
]
DEFENCES = ["none", "pr", "pr-multi", "pr-multi-image", "noise", "quantised", "inverted-pr-multi", "adversarial-pgd"]


@pytest.fixture(autouse=True)
def exact():
    """One thread, and products of a GPU in float32 rather than TF32."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = torch.get_num_threads(), [backend.allow_tf32 for backend in backends]
    torch.set_num_threads(1)
    for backend in backends:
        backend.allow_tf32 = False
    yield
    torch.set_num_threads(before[0])
    for backend, value in zip(backends, before[1], strict=True):
        backend.allow_tf32 = value


@pytest.fixture(params=["layers", pytest.param("cuda", marks=needs_a_gpu)])
def elsewhere(request):
    """Another implementation of float32: its device, and what turns a network of the CPU into its own."""

    def by_layers(model):
        model = copy.deepcopy(model)
        model.forward = MethodType(nn.Sequential.forward, model)
        return model

    return ("cpu", by_layers) if request.param == "layers" else ("cuda", lambda model: copy.deepcopy(model).cuda())


@pytest.fixture(scope="module")
def images():
    return load("mnist", "train", "sample").take(640, seed=0)


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """A network trained redrawn, 200 test images and their labels."""
    torch.set_num_threads(1)
    redraw = PixelRedraw.fit(steps=500)
    ((_, model),) = train(
        images, Recipe(), transformed(redraw), [6], 0, tmp_path_factory.mktemp("weights"), progress="none"
    )
    test = load("mnist", "test", "sample").take(200)
    return model, to_float(test.images), test.labels


def begun(split, defence, folder, device="cpu", seed=3):
    return Trainer(
        split, Recipe(), default_defence(defence, split.name).preparation(device), seed, folder, device, 1, "cuda"
    )


def test_training_starts_alike(images, tmp_path, elsewhere):
    device, moved = elsewhere
    here, there = begun(images, "none", tmp_path), begun(images, "none", tmp_path, device)
    with torch.no_grad():
        for parameter, other in zip(here.model.parameters(), there.model.parameters(), strict=True):
            assert torch.equal(parameter, other.cpu())
    there.model = moved(there.model.cpu())
    there.optimizer = torch.optim.Adam(there.model.parameters(), here.recipe.learning_rate, fused=True)
    redraw, generator = PixelRedraw.fit(steps=500), torch.Generator().manual_seed(0)
    ours, theirs = [], []
    for start in range(0, 640, 128):
        batch, labels = images.images[start : start + 128], images.labels[start : start + 128]
        redrawn = redraw(to_float(batch), generator)
        ours.append(float(here.step(redrawn, labels)))
        theirs.append(float(there.step(redrawn.to(device), labels.to(device))))
    print("losses", ours, theirs)
    assert theirs[0] == pytest.approx(ours[0], rel=1e-5)
    assert theirs == pytest.approx(ours, rel=1e-3)
    assert ours[-1] < ours[0]


@pytest.mark.parametrize("name", ["fgsm", "bim", "mim", "pgd"])
def test_gradient_attacks_agree(trained, elsewhere, name):
    model, images, labels = trained
    device, moved = elsewhere
    attack = {"fgsm": fgsm, "bim": bim, "mim": mim, "pgd": pgd}[name]

    def options():
        drawn = {"generator": torch.Generator().manual_seed(0), "step_size": 0.05, "steps": 10}
        return {"epsilon": 0.1} | (drawn if name == "pgd" else {})

    other = moved(model)
    ours = attack(model, images, labels, **options())
    theirs = attack(other, images.to(device), labels.to(device), **options()).cpu()
    assert (theirs - images).abs().max() <= 0.1 + 1e-6
    different = ((ours - theirs).abs() > 1e-4).float().mean().item()
    with torch.no_grad():
        right = [(model(x).argmax(1) == labels).float().mean().item() for x in (images, ours, theirs)]
    print(name, "values that differ", different, "accuracies", right)
    assert right[0] - right[1] > 0.1  # the attack does something
    assert different < 0.01 and abs(right[1] - right[2]) <= 0.01


@pytest.mark.slow
def test_cw_agrees(trained, elsewhere):
    model, images, labels = (thing[:30] if isinstance(thing, torch.Tensor) else thing for thing in trained)
    device, moved = elsewhere
    ours, success = cw_l2(model, images, labels, max_steps=100)
    theirs, other = cw_l2(moved(model), images.to(device), labels.to(device), max_steps=100)
    both = success & other.cpu()
    lengths = [(x.cpu() - images)[both].flatten(1).norm(dim=1) for x in (ours, theirs)]
    print("cw", success.sum().item(), other.sum().item(), [length.mean().item() for length in lengths])
    assert (success != other.cpu()).sum() <= 1 and both.sum() >= 20
    assert lengths[0].mean().item() == pytest.approx(lengths[1].mean().item(), rel=0.02)


class NoWaiting(TorchDispatchMode):
    """Fails on whatever makes a host wait for its device: values that Python reads, sizes that depend on values."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = name == "index" and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if masks or name in ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "equal"):
            raise AssertionError(f"{function} makes the host wait")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("defence", DEFENCES)
def test_no_step_reads_a_value(images, tmp_path, defence):
    run = begun(images.take(160), defence, tmp_path)
    run.model.forward = MethodType(nn.Sequential.forward, run.model)  # as on a GPU; the fast way compares weights
    run.epoch = 5  # adversarial training warms up
    before = run.model[0].weight.detach().clone()
    with progress_bar("none") as bar, vouched_for(), NoWaiting():
        run.train_one_epoch(bar)
    assert not torch.equal(run.model[0].weight, before)


def test_what_reads_a_value_is_noticed():
    values = torch.rand(3)
    for wait in (values.max().item, values.nonzero, lambda: bool(values[0] > 0), lambda: values[values > 0.5]):
        with pytest.raises(AssertionError, match="makes the host wait"), NoWaiting():
            wait()


class TestOnAGpu:
    """What can only be seen on a GPU."""

    pytestmark = needs_a_gpu

    @pytest.mark.parametrize("defence", DEFENCES)
    def test_no_step_waits(self, images, tmp_path, defence):
        run = begun(images, defence, tmp_path, "cuda")
        run.epoch = 5
        with progress_bar("none") as bar, vouched_for():
            run.train_one_epoch(bar)  # the first step loads kernels and chooses algorithms
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
            try:
                total = run.train_one_epoch(bar)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        assert float(total) > 0

    def test_an_interrupted_training_ends_with_the_same_weights(self, images, tmp_path):
        before, torch.backends.cudnn.deterministic = torch.backends.cudnn.deterministic, True
        try:
            redraw = PixelRedraw.fit(k=2, steps=100, init="normal").cuda()
            given = (images.take(320), Recipe(), transformed(redraw))
            (_, whole), *_ = train(*given, [4], 0, tmp_path / "whole", "cuda", "none")
            list(train(*given, [2], 0, tmp_path / "twice", "cuda", "none"))
            (_, twice), *_ = train(*given, [4], 0, tmp_path / "twice", "cuda", "none")
        finally:
            torch.backends.cudnn.deterministic = before
        assert whole[0].weight.device.type == "cuda" and not whole.training
        assert all(map(torch.equal, whole.state_dict().values(), twice.state_dict().values()))
        there = load_model(tmp_path / "whole" / "epoch-0004.safetensors")
        assert all(map(torch.equal, whole.cpu().state_dict().values(), there.state_dict().values()))

    def test_a_checkpoint_of_another_device_is_refused(self, images, tmp_path):
        list(train(images.take(160), Recipe(), transformed(None), [1], 0, tmp_path, progress="none"))
        with pytest.raises(ValueError, match="another kind of device than 'cuda'"):
            list(train(images.take(160), Recipe(), transformed(None), [2], 0, tmp_path, "cuda", "none"))

    def test_an_experiment_is_measured_and_its_network_stored_in_half(self, tmp_path):
        training = Training("mnist", "sample", 640, default_defence("pr", "mnist"), default_recipe("mnist"), 0)
        attacks = tuple(default_attack(name, "mnist") for name in ("fgsm", "bim", "mim", "cw"))
        tested = (default_defence("pr", "mnist"),)
        experiment = Experiment(training, tested, (2, 5), 100, attacks, ("A", "B", "C"))
        store = Store(tmp_path, precision="float16")
        record = run(experiment, Context(store, "cuda", "none"))
        assert len(record.cells) == 2 * 4 * 3 and record.provenance["snapshots"] == "float16"
        assert record.provenance["machine"]["device"] == torch.cuda.get_device_name()
        assert Snapshot.read(store.snapshot(training, 5)).precision == "float16"
