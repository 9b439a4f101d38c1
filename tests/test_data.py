"""The datasets: formats, digests, class balance, downloads (from a server started here) and the sample."""

import functools
import gzip
import hashlib
import http.server
import io
import itertools
import json
import os
import pickle
import resource
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import zlib
from dataclasses import FrozenInstanceError
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pytest
import torch

import prlib.originals
from prlib import cifar, data, download
from prlib.download import Archive
from prlib.sample import make

STORED = ("mnist", "fashion-mnist", "cifar10")
NAMES_AND_SPLITS = list(itertools.product(data.DATASETS, ("train", "test")))
FULL = {name: not any(data.missing(name, split) for split in data.SPLITS) for name in STORED}


def needs_full(*names):
    absent = [name for name in names if not FULL[name]]
    reason = f"the full data of {', '.join(absent)} is neither in $PRLIB_DATA nor in ~/.cache/prlib"
    return pytest.mark.skipif(bool(absent), reason=reason)


@functools.cache
def full(name, split, root=None):
    """The full data of the machine; to be asked for only where its digests are not patched."""
    return data.load(name, split, root)


def bytes_of_images(split):
    return [image.tobytes() for image in split.images.numpy()]


# --- full data in its original formats ---------------------------------------------------------------------


@pytest.fixture
def originals(monkeypatch):
    """Tiny datasets as arrays, with the digests of their files: path -> content, and (name, split) -> arrays."""
    random = np.random.default_rng(1)
    contents, arrays = {}, {}
    for name, folder in (("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")):
        for split, kind, n in (("train", "train", 500), ("test", "t10k", 20)):
            images = random.integers(0, 256, (n, 28, 28), np.uint8)
            labels = np.arange(n, dtype=np.uint8) % 10
            start = f"{folder}/raw/{kind}"
            contents[f"{start}-images-idx3-ubyte"] = struct.pack(">4I", 2051, n, 28, 28) + images.tobytes()
            contents[f"{start}-labels-idx1-ubyte"] = struct.pack(">2I", 2049, n) + labels.tobytes()
            arrays[name, split] = images[:, None], labels
    for split, files in (("train", [f"data_batch_{i}" for i in range(1, 6)]), ("test", ["test_batch"])):
        images = random.integers(0, 256, (10 * len(files), 3, 32, 32), np.uint8)
        labels = random.integers(0, 10, 10 * len(files), np.uint8)
        arrays["cifar10", split] = images, labels
        for i, file in enumerate(files):
            part = range(10 * i, 10 * i + 10)
            records = b"".join(bytes([labels[j]]) + images[j].tobytes() for j in part)
            contents[f"cifar-10-batches-bin/{file}.bin"] = records
    assert set(contents) == set(prlib.originals.SHA256)
    for path, content in contents.items():
        monkeypatch.setitem(prlib.originals.SHA256, path, hashlib.sha256(content).hexdigest())
    return contents, arrays


def lay_out(root, contents, gzipped=False):
    for path, content in contents.items():
        file = root / (f"{path}.gz" if gzipped else path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(content) if gzipped else content)


@pytest.fixture
def no_download(monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"nothing should be downloaded: {arguments}")

    monkeypatch.setattr(prlib.originals, "fetch", refuse)


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", STORED)
def test_original_formats(tmp_path, originals, no_download, name, split, gzipped):
    contents, arrays = originals
    lay_out(tmp_path, contents, gzipped)
    loaded = data.load(name, split, tmp_path)
    images, labels = arrays[name, split]
    assert (loaded.images.dtype, loaded.labels.dtype) == (torch.uint8, torch.int64)
    np.testing.assert_array_equal(loaded.images, images)
    np.testing.assert_array_equal(loaded.labels, labels)
    assert (loaded.name, loaded.split, loaded.source, len(loaded)) == (name, split, "full", len(labels))
    assert loaded.take(2).source == "full"


def test_where_both_forms_are_as_torchvision_leaves_them_the_plain_one_is_read(tmp_path, originals, no_download):
    contents, arrays = originals
    lay_out(tmp_path, contents)
    lay_out(tmp_path, dict.fromkeys(contents, b"another content"), gzipped=True)
    np.testing.assert_array_equal(data.load("mnist", "train", str(tmp_path)).images, arrays["mnist", "train"][0])


def test_one_split_is_enough_to_load_it(tmp_path, originals, no_download):
    contents, _ = originals
    lay_out(tmp_path, {path: content for path, content in contents.items() if "t10k" in path})
    assert len(data.load("mnist", "test", tmp_path)) == 20
    assert data.missing("mnist", "test", tmp_path) == ()
    assert data.missing("mnist", "train", tmp_path) == (
        "MNIST/raw/train-images-idx3-ubyte",
        "MNIST/raw/train-labels-idx1-ubyte",
    )


def test_root_is_the_argument_else_the_environment_else_the_cache(tmp_path, originals, no_download, monkeypatch):
    contents, _ = originals
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PRLIB_DATA", raising=False)
    lay_out(tmp_path / "home/.cache/prlib", contents)
    assert len(data.load("mnist", "test")) == 20
    monkeypatch.setenv("PRLIB_DATA", str(tmp_path / "environment"))
    assert len(data.missing("mnist", "test")) == 2
    lay_out(tmp_path / "environment", contents)
    assert len(data.load("mnist", "test")) == 20
    assert len(data.missing("mnist", "test", tmp_path / "argument")) == 2


def test_gray_is_derived_file_by_file(tmp_path, originals, no_download):
    contents, arrays = originals
    lay_out(tmp_path, contents)
    before = sorted(tmp_path.rglob("*"))
    gray = data.load("cifar10-gray", "train", tmp_path)
    expected = np.einsum("nchw,c->nhw", arrays["cifar10", "train"][0], [0.2989, 0.5870, 0.1140])
    assert gray.images.shape == (50, 1, 32, 32) and gray.images.dtype == torch.uint8
    assert np.abs(gray.images[:, 0].numpy() - expected).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(gray.labels, arrays["cifar10", "train"][1])
    assert sorted(tmp_path.rglob("*")) == before


def test_gray_rounds_exactly_with_halves_upwards():
    weights = [Decimal("0.2989"), Decimal("0.5870"), Decimal("0.1140")]
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    ties = grid[(grid @ [2989, 5870, 1140]) % 10_000 == 5_000]
    colours = np.concatenate([ties, grid[::200], [[255, 255, 255]]])
    expected = [
        int(sum(w * int(v) for w, v in zip(weights, colour, strict=True)).quantize(Decimal(1), ROUND_HALF_UP))
        for colour in colours
    ]
    pixels = torch.from_numpy(colours.astype(np.uint8))[:, :, None, None]
    assert len(ties) > 5
    assert data.to_gray(pixels).flatten().tolist() == expected


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gz"])
def test_another_content_is_refused_and_left_in_place(tmp_path, originals, no_download, gzipped):
    contents, _ = originals
    lay_out(tmp_path, contents, gzipped)
    path = "MNIST/raw/t10k-labels-idx1-ubyte"
    file = tmp_path / (f"{path}.gz" if gzipped else path)
    wrong = contents[path][:-1] + b"\xff"
    file.write_bytes(gzip.compress(wrong) if gzipped else wrong)
    before = file.read_bytes()
    with pytest.raises(ValueError, match=prlib.originals.SHA256[path]) as error:
        data.load("mnist", "test", tmp_path)
    assert str(file) in str(error.value)
    assert file.read_bytes() == before
    assert len(data.load("mnist", "train", tmp_path)) == 500


@pytest.mark.parametrize("damage", [lambda gz: gz[: len(gz) // 2], lambda gz: b"no gzip", lambda gz: gz[:20] + gz[30:]])
def test_damaged_gzip_is_refused_and_left_in_place(tmp_path, originals, no_download, damage):
    contents, _ = originals
    lay_out(tmp_path, contents, gzipped=True)
    file = tmp_path / "cifar-10-batches-bin/test_batch.bin.gz"
    file.write_bytes(damage(file.read_bytes()))
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"test_batch\.bin\.gz is not the original"):
        data.load("cifar10", "test", tmp_path)
    assert file.read_bytes() == before


@pytest.mark.parametrize(("name", "split"), [("mnits", "train"), ("cifar10-grey", "test"), ("mnist-gray", "train")])
def test_unknown_dataset(name, split):
    with pytest.raises(ValueError, match=f"dataset must be one of mnist, .*cifar10-gray; got '{name}'"):
        data.load(name, split, "sample")


def test_unknown_split():
    with pytest.raises(ValueError, match="split must be one of train, test; got 'validation'"):
        data.load("mnist", "validation", "sample")


# --- Split and its subsets ---------------------------------------------------------------------------------


def toy(counts=(30, 40, 35), seed=0):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    images = torch.arange(len(labels) * 4).to(torch.uint8).reshape(-1, 1, 2, 2)
    images[:, 0, 0] = torch.stack([torch.arange(len(labels)) // 256, torch.arange(len(labels)) % 256], 1)
    return data.Split.of(images, torch.from_numpy(labels), "mnist", "train")


def identities(split):
    return [256 * int(a) + int(b) for a, b in split.images[:, 0, 0]]


def test_digest_is_the_documented_one_and_sees_every_change():
    split = toy()
    parts = b"105x1x2x2", split.images.numpy().tobytes(), b"".join(struct.pack("<q", y) for y in split.labels)
    assert split.digest == hashlib.sha256(b"".join(parts)).hexdigest()
    images, labels = split.images.clone(), split.labels.clone()
    images[3, 0, 1, 1] += 1
    labels[3] = (labels[3] + 1) % 3
    variants = [(images, split.labels), (split.images, labels), (split.images.reshape(-1, 1, 1, 4), split.labels)]
    digests = {data.Split.of(*variant, "mnist", "train").digest for variant in variants}
    assert len(digests | {split.digest}) == 4


def test_digest_is_of_the_images_not_of_their_layout_in_memory():
    split = toy()
    strided = split.images.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    assert not strided.is_contiguous()
    assert data.Split.of(strided, split.labels, "mnist", "train") == split


def test_split_is_frozen():
    with pytest.raises(FrozenInstanceError):
        toy().name = "other"


@pytest.mark.parametrize("seed", [None, 0, 2**56])
@pytest.mark.parametrize("n", [1, 2, 10, 89, 90, 92])
def test_subsets_are_balanced_and_whole(n, seed):
    split = toy()
    taken = split.take(n, seed)
    counts = np.bincount(taken.labels, minlength=3)
    assert len(taken) == len(taken.images) == n == len(set(identities(taken)))
    assert counts.max() - counts.min() <= 1
    assert taken.labels.tolist() == [int(split.labels[i]) for i in identities(taken)]
    assert taken.digest == data.Split.of(taken.images, taken.labels, "x", "y").digest != split.digest


def test_subset_without_seed_is_the_first_of_each_class_in_order():
    split = toy()
    taken = split.take(30)
    firsts = sorted(int(i) for label in range(3) for i in np.flatnonzero(split.labels == label)[:10])
    assert identities(taken) == firsts


def test_subset_with_seed_is_shuffled_repeatable_and_nested():
    split = toy()
    assert split.take(60, 1) == split.take(60, 1) != split.take(60, 2)
    assert identities(split.take(60, 1)) != sorted(identities(split.take(60, 1)))
    assert set(identities(split.take(31, 1))) < set(identities(split.take(60, 1)))


def test_all_images_can_be_taken_though_unbalanced():
    split = toy()
    assert split.take(105) == split
    assert sorted(identities(split.take(105, 1))) == list(range(105))


@pytest.mark.parametrize("n", [0, -1, 106])
def test_subset_of_impossible_size(n):
    with pytest.raises(ValueError, match=f"n of mnist train must be an integer from 1 to 105; got {n}"):
        toy().take(n)


@pytest.mark.parametrize("n", [93, 104])
def test_subset_too_large_to_balance(n):
    with pytest.raises(ValueError, match=f"must be at most 92 .* or 105; got {n}"):
        toy().take(n)


def test_loading_and_taking_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    data.load("mnist", "train", "sample").take(100, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_to_float():
    every = torch.arange(256).to(torch.uint8).reshape(1, 1, 16, 16)
    floats = data.to_float(every)
    assert floats.dtype == torch.float32 and floats.shape == every.shape
    np.testing.assert_array_equal(floats.flatten(), np.arange(256, dtype=np.float32) / np.float32(255))
    with pytest.raises(ValueError, match=r"torch\.uint8; got torch\.float32"):
        data.to_float(floats)


# --- downloads ---------------------------------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    """Serves `bodies` (path -> bytes). The `drops` next answers stop halfway; Range is obeyed if `ranges`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies, self.drops, self.ranges, self.requests = {}, 0, True, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.server.requests.append((self.path, start))
        if self.path not in self.server.bodies:
            return self.send_error(404)
        body = self.server.bodies[self.path]
        partial = self.server.ranges and "Range" in self.headers
        rest = body[start:] if partial else body
        self.send_response(206 if partial else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        dropped = self.server.drops > 0
        self.server.drops -= dropped
        self.wfile.write(rest[: len(rest) // 2] if dropped else rest)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSES", (0, 0, 0))
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


MIRRORED = "MNIST/raw/t10k-images-idx3-ubyte"


@pytest.fixture
def mirrors(server, originals, monkeypatch):
    """Two mirrors on the server, /a and /b, of all archives, as prlib.originals.ARCHIVES; path -> body served."""
    contents, _ = originals
    archives = []
    for archive in prlib.originals.ARCHIVES:
        name = archive.urls[0].rpartition("/")[2]
        if name.endswith(".tar.gz"):
            body = tar({path: contents[path] for path in archive.gives})
        else:
            body = gzip.compress(contents[archive.gives[0].removesuffix(".gz")])
        folder = archive.gives[0].partition("/")[0]
        paths = [f"/{mirror}/{folder}/{name}" for mirror in "ab"]
        server.bodies |= dict.fromkeys(paths, body)
        checksum = f"sha256:{hashlib.sha256(body).hexdigest()}"
        archives.append(Archive(tuple(server.url + path for path in paths), checksum, archive.gives))
    monkeypatch.setattr(prlib.originals, "ARCHIVES", archives)
    return server


def tar(contents):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, content in {**contents, "cifar-10-batches-bin/readme.html": b"<html>"}.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def files(root):
    return sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())


MNIST_GZ = sorted(f"{path}.gz" for path in prlib.originals.SHA256 if path.startswith("MNIST/"))
TRAIN_URL = "/MNIST/train-images-idx3-ubyte.gz"


@pytest.mark.parametrize("name", STORED)
def test_download_of_all_that_is_missing(tmp_path, originals, mirrors, name):
    _, arrays = originals
    root = tmp_path / "new" / "root"
    for split in ("train", "test"):
        np.testing.assert_array_equal(data.load(name, split, root).images, arrays[name, split][0])
    expected = 1 if name == "cifar10" else 4
    assert len(mirrors.requests) == expected, "each archive is downloaded once, for both splits"
    assert all(path.startswith("/a/") for path, _ in mirrors.requests)
    folder = prlib.originals.FILES[name]["test"][0][0].rpartition("/")[0]
    gz = "" if name == "cifar10" else ".gz"
    assert files(root) == sorted(path + gz for path in prlib.originals.SHA256 if path.startswith(folder))


def test_download_leaves_what_is_there(tmp_path, originals, mirrors):
    contents, _ = originals
    path = "cifar-10-batches-bin/data_batch_2.bin"
    lay_out(tmp_path, {path: contents[path]})
    before = (tmp_path / path).stat()
    data.load("cifar10", "train", tmp_path)
    after = (tmp_path / path).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_dropped_connection_goes_on_where_it_broke(tmp_path, originals, mirrors):
    mirrors.drops = 3
    data.load("mnist", "train", tmp_path)
    tries = [(path, start) for path, start in mirrors.requests if path.endswith(TRAIN_URL)]
    assert [path for path, _ in tries] == ["/a" + TRAIN_URL] * 4, "one mirror is enough"
    starts = [start for _, start in tries]
    assert starts[0] == 0 and starts == sorted(set(starts)), "every request begins further on"
    assert files(tmp_path) == MNIST_GZ


def test_dropped_connection_starts_again_where_the_server_knows_no_range(tmp_path, originals, mirrors):
    _, arrays = originals
    mirrors.drops, mirrors.ranges = 2, False
    np.testing.assert_array_equal(data.load("mnist", "train", tmp_path).images, arrays["mnist", "train"][0])
    tries = [(path, start) for path, start in mirrors.requests if path.endswith(TRAIN_URL)]
    assert [path for path, _ in tries] == ["/a" + TRAIN_URL] * 3
    assert tries[1][1] > 0, "Range was asked for"


def test_server_that_always_drops_is_given_up(tmp_path, mirrors):
    mirrors.drops, mirrors.ranges = 10**6, False
    with pytest.raises(ConnectionError, match=r"train-images-idx3-ubyte\.gz cannot be downloaded") as error:
        data.load("mnist", "train", tmp_path)
    assert all(f"{mirrors.url}/{mirror}{TRAIN_URL}" in str(error.value) for mirror in "ab")
    assert len(mirrors.requests) == 2 * (1 + len(download.PAUSES))
    assert files(tmp_path) == []


@pytest.mark.parametrize("there", ["", "data", "data/MNIST/raw"])
def test_a_folder_that_was_named_by_mistake_is_left_as_it_was_where_nothing_can_be_downloaded(tmp_path, mirrors, there):
    (tmp_path / there).mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    mirrors.drops, mirrors.bodies = 10**6, dict.fromkeys(mirrors.bodies, b"?")  # dropped before the first byte
    with pytest.raises(ConnectionError, match="cannot be downloaded"):
        data.load("mnist", "train", tmp_path / "data")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("damage", [lambda body: body[:-1] + b"?", lambda body: body[:-5], lambda body: b""])
def test_corrupted_file_falls_over_to_the_next_mirror(tmp_path, originals, mirrors, damage):
    _, arrays = originals
    path = "/a" + TRAIN_URL
    mirrors.bodies[path] = damage(mirrors.bodies[path])
    np.testing.assert_array_equal(data.load("mnist", "train", tmp_path).images, arrays["mnist", "train"][0])
    tries = [path for path, _ in mirrors.requests if path.endswith(TRAIN_URL)]
    assert tries == ["/a" + TRAIN_URL, "/b" + TRAIN_URL]
    assert files(tmp_path) == MNIST_GZ


def test_no_mirror_has_it_right(tmp_path, mirrors):
    mirrors.bodies["/a/CIFAR"] = b""
    archive = "/cifar-10-batches-bin/cifar-10-binary.tar.gz"
    mirrors.bodies["/a" + archive] = mirrors.bodies["/a" + archive][:-1]
    del mirrors.bodies["/b" + archive]
    with pytest.raises(ConnectionError) as error:
        data.load("cifar10-gray", "test", tmp_path)
    assert str(error.value) == (
        f"{tmp_path} lacks cifar-10-batches-bin/test_batch.bin; the folder with the data must hold MNIST/raw/, "
        "FashionMNIST/raw/ and cifar-10-batches-bin/ (or cifar-10-batches-py/), and these the files themselves, each "
        "unpacked or as .gz; cifar-10-binary.tar.gz cannot be downloaded; "
        f"tried {mirrors.url}/a{archive} (wrong checksum), "
        f"{mirrors.url}/b{archive} (HTTPError 404)"
    )
    assert files(tmp_path) == []


def test_progress_is_shown(tmp_path, mirrors, capsys):
    data.load("mnist", "test", tmp_path)
    assert "100%" in capsys.readouterr().err


def test_unusable_root_is_refused_before_a_download(tmp_path, mirrors):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(OSError, match=r"lacks MNIST/raw/.*cannot be written to") as error:
        data.load("mnist", "test", blocked)
    assert str(blocked) in str(error.value)
    assert mirrors.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a folder without write permission")
def test_read_only_root_is_refused_before_a_download(tmp_path, mirrors):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"lacks MNIST/raw/.*cannot be written to"):
        data.load("mnist", "test", tmp_path)
    tmp_path.chmod(0o700)
    assert mirrors.requests == []


def test_sources_are_complete():
    given = [path.removesuffix(".gz") for archive in prlib.originals.ARCHIVES for path in archive.gives]
    assert sorted(given) == sorted(prlib.originals.SHA256)
    named = [
        path
        for splits in prlib.originals.FILES.values()
        for parts in splits.values()
        for part in parts
        for path in part
    ]
    assert sorted(named) == sorted(prlib.originals.SHA256)


# --- the embedded sample -----------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"no network should be used: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(("name", "split"), NAMES_AND_SPLITS)
def test_sample_is_there_without_network(tmp_path, monkeypatch, no_network, no_download, name, split):
    monkeypatch.setenv("PRLIB_DATA", str(tmp_path))
    sample, facts = data.load(name, split, "sample"), data.DATASETS[name]
    n = 2000 if split == "train" else 500
    assert sample.images.shape == (n, facts.channels, facts.size, facts.size)
    assert np.bincount(sample.labels).tolist() == [n // 10] * 10
    assert len(set(bytes_of_images(sample))) == n
    assert sample.source == sample.take(20, 1).source == "sample"
    assert data.missing(name, split, "sample") == ()


def test_gray_sample_is_the_colour_samples():
    colour, gray = (data.load(name, "test", "sample") for name in ("cifar10", "cifar10-gray"))
    expected = np.tensordot(colour.images.numpy(), [0.2989, 0.5870, 0.1140], (1, 0))
    assert np.abs(gray.images[:, 0].numpy() - expected).max() <= 0.5 + 1e-9
    assert torch.equal(gray.labels, colour.labels)


@pytest.mark.parametrize("name", STORED)
def test_sample_splits_are_disjoint(name):
    train, test = (set(bytes_of_images(data.load(name, split, "sample"))) for split in ("train", "test"))
    assert not train & test


def test_sample_is_small_and_its_readme_states_the_digests():
    assert sum(file.stat().st_size for file in data.SAMPLE.iterdir() if file.is_file()) <= 8_000_000
    readme = (data.SAMPLE / "README.md").read_text()
    for name, split in itertools.product(STORED, data.SPLITS):
        assert f"| `{name}` {split} | `{data.load(name, split, 'sample').digest}` |" in readme


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("split", ["train", "test"])
def test_sample_is_part_of_the_full_data(request, name, split):
    if not FULL[name]:
        pytest.skip(f"the full data of {name} is neither in $PRLIB_DATA nor in ~/.cache/prlib")
    sample = data.load(name, split, "sample")
    whole = full(name, split)
    where = {image: int(label) for image, label in zip(bytes_of_images(whole), whole.labels, strict=True)}
    assert [where[image] for image in bytes_of_images(sample)] == sample.labels.tolist()


@pytest.fixture
def small_sample(tmp_path, monkeypatch):
    """A sample of toy splits in a folder of its own."""
    monkeypatch.setattr(make, "COLUMNS", 5)
    monkeypatch.setattr(data, "SAMPLE", tmp_path)
    random = np.random.default_rng(0)
    splits = []
    for (name, split), n in zip(itertools.product(("mnist", "cifar10"), data.SPLITS), (20, 10, 5, 15), strict=True):
        facts = data.DATASETS[name]
        images = random.integers(0, 256, (n, facts.channels, facts.size, facts.size), np.uint8)
        splits.append(data.Split.of(torch.from_numpy(images), torch.from_numpy(random.integers(0, 10, n)), name, split))
    make.write(splits, tmp_path)
    return tmp_path, splits


def test_what_make_writes_is_what_load_reads(small_sample):
    _, splits = small_sample
    for split in splits:
        loaded = data.load(split.name, split.split, "sample")
        assert loaded.digest == split.digest
        assert torch.equal(loaded.images, split.images) and torch.equal(loaded.labels, split.labels)


def test_making_twice_gives_the_same_files(small_sample, tmp_path_factory):
    folder, splits = small_sample
    other = tmp_path_factory.mktemp("again")
    make.write(splits, other)
    assert files(folder) == files(other) != []
    assert all((folder / file).read_bytes() == (other / file).read_bytes() for file in files(folder))


def test_changed_sample_is_refused(small_sample):
    folder, _ = small_sample
    entries = json.loads((folder / "sample.json").read_text())
    labels = entries["mnist"]["test"]["labels"]
    entries["mnist"]["test"]["labels"] = labels[1:] + labels[:1]
    (folder / "sample.json").write_text(json.dumps(entries))
    (folder / "cifar10-train.png").write_bytes((folder / "cifar10-test.png").read_bytes())
    for name, split in (("mnist", "test"), ("cifar10", "train")):
        with pytest.raises(ValueError, match=rf"{name}-{split}\.png or its labels have changed"):
            data.load(name, split, "sample")
    data.load("mnist", "train", "sample")


@needs_full("mnist", "fashion-mnist", "cifar10")
def test_sample_is_made_again_from_the_full_data(monkeypatch):
    monkeypatch.setattr(make, "load", lambda name, split, root: full(name, split))
    for pool in make.pools(None):
        n = make.N_TRAIN if pool.split == "train" else make.N_TEST
        assert pool.take(n, make.SEED).digest == data.load(pool.name, pool.split, "sample").digest


# --- the real full data ------------------------------------------------------------------------------------


@needs_full("mnist", "fashion-mnist", "cifar10")
@pytest.mark.parametrize(("name", "split"), NAMES_AND_SPLITS)
def test_full_data_has_the_stated_shape(name, split):
    loaded, facts = full(name, split), data.DATASETS[name]
    n = facts.n_train if split == "train" else facts.n_test
    assert loaded.images.shape == (n, facts.channels, facts.size, facts.size)
    assert loaded.images.is_contiguous() and len(loaded.labels) == n
    counts = np.bincount(loaded.labels, minlength=len(facts.classes))
    assert len(counts) == 10
    assert (counts == n // 10).all() or name == "mnist"


@needs_full("cifar10")
def test_cifar10_has_its_published_means_and_deviations():
    pixels = full("cifar10", "train").images.numpy()
    levels = np.arange(256) / 255
    for channel, (mean, deviation) in enumerate(
        [(0.49139968, 0.24703223), (0.48215841, 0.24348513), (0.44653091, 0.26158784)]
    ):
        share = np.bincount(pixels[:, channel].reshape(-1), minlength=256) / pixels[:, channel].size
        assert share @ levels == pytest.approx(mean, abs=1e-6)
        assert np.sqrt(share @ (levels - share @ levels) ** 2) == pytest.approx(deviation, abs=1e-5)


@needs_full("cifar10")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.slow
def test_cifar10_loads_in_about_twice_its_size():
    code = """
from pathlib import Path
from prlib import data

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

data.load("cifar10", "test")
before = peak()
size = data.load("cifar10", "train").images.nbytes
print((peak() - before) / size)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.5 < float(run.stdout) < 2.1


def test_command_line_explains_itself(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["make", "--help"])
    with pytest.raises(SystemExit, match="0"):
        make.main()
    text = capsys.readouterr().out
    assert "--data" in text and "test set" in text


# --- layouts, sizes, stopped downloads -----------------------------------------------------------------------


def python_batch(content, fortran=False):
    """A batch of the binary version as the Python version has it: a Python 2 pickle of protocol 2, opcode by opcode."""
    records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
    pixels = np.array(records[:, 1:], order="F" if fortran else "C")

    def string(value):  # of Python 2, whose strings are bytes
        return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value

    integers = [b"J" + struct.pack("<i", value) for value in (*pixels.shape, *records[:, 0])]
    array = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + string(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + string(b"u1") + b"K\x00K\x01\x87R" + b"(K\x03" + string(b"|") + b"NNN"
    dtype += 2 * (b"J" + struct.pack("<i", -1)) + b"K\x00tb"
    order = b"\x88" if fortran else b"\x89"
    state = b"(K\x01" + integers[0] + integers[1] + b"\x86" + dtype + order
    state += string(pixels.tobytes(order="F" if fortran else "C")) + b"tb"
    labels = b"](" + b"".join(integers[2:]) + b"e"
    return b"\x80\x02}(" + string(b"data") + array + state + string(b"labels") + labels + b"u."


@pytest.mark.parametrize("fortran", [False, True])
def test_cifar10s_python_version_is_read(tmp_path, originals, no_download, fortran):
    contents, arrays = originals
    for path, content in contents.items():
        if path.startswith("cifar"):
            file = tmp_path / "cifar-10-batches-py" / Path(path).stem
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(python_batch(content, fortran))
    assert pickle.loads(file.read_bytes(), encoding="bytes")[b"data"].shape == (10, 3072)  # it is what NumPy reads
    for split in data.SPLITS:
        assert data.missing("cifar10", split, tmp_path) == ()
        loaded = data.load("cifar10", split, tmp_path)
        np.testing.assert_array_equal(loaded.images, arrays["cifar10", split][0])
        np.testing.assert_array_equal(loaded.labels, arrays["cifar10", split][1])


class Attack:
    """Its pickle asks for a function of the system's."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["code", "code inside", "cut", "text", "empty", "more", "no labels", "large labels"])
def test_a_pickle_that_is_no_batch_is_refused_and_runs_nothing(tmp_path, originals, no_download, kind):
    attack, batch = Attack(tmp_path / "ran"), python_batch(originals[0]["cifar-10-batches-bin/test_batch.bin"])
    pixels = np.zeros((10, 3072), np.uint8)
    content = {
        "code": pickle.dumps(attack),
        "code inside": pickle.dumps({b"data": pixels, b"labels": attack}, protocol=2),
        "cut": batch[: len(batch) // 2],
        "text": b"<html>not found</html>",
        "empty": b"",
        "more": pickle.dumps({b"data": pixels, b"labels": [1] * 11}, protocol=2),
        "no labels": pickle.dumps({b"data": pixels}, protocol=2),
        "large labels": pickle.dumps({b"data": pixels, b"labels": 10**10}, protocol=2),
    }[kind]
    file = tmp_path / "cifar-10-batches-py" / "test_batch"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"cifar-10-batches-py/test_batch is not the original.*move it away"):
        data.load("cifar10", "test", tmp_path)
    assert not attack.path.exists() and file.read_bytes() == content
    with pytest.raises(ValueError, match="no batch of CIFAR-10's Python version"):
        cifar.records(content)


@pytest.mark.parametrize(
    ("name", "inside", "file"),
    [
        ("mnist", "MNIST", "t10k-images-idx3-ubyte"),
        ("mnist", "MNIST/raw", "t10k-images-idx3-ubyte.gz"),
        ("fashion-mnist", "FashionMNIST", "t10k-images-idx3-ubyte.gz"),
        ("cifar10", "cifar-10-batches-bin", "test_batch.bin"),
        ("cifar10", "cifar-10-batches-py", "test_batch"),
        ("mnist", "..", "t10k-images-idx3-ubyte"),
        ("cifar10", "..", "test_batch.bin"),
    ],
)
def test_the_folder_of_one_dataset_or_above_all_is_named(tmp_path, originals, no_download, name, inside, file):
    home = tmp_path / "home"
    folder = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw", "cifar10": "cifar-10-batches-bin"}[name]
    there = home / (inside if inside.startswith("cifar") else folder) / file
    there.parent.mkdir(parents=True)
    there.write_bytes(b"")
    root, before = (home / inside).resolve(), sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=f"^{root} lacks .*there is {there}; .*must hold MNIST/raw/"):
        data.load(name, "test", root)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "there", ["mnist/raw/t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte", "MNIST/raw/t10k-images.idx3-ubyte.gz"]
)
def test_files_and_folders_that_are_called_otherwise_are_named(tmp_path, originals, no_download, there):
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_bytes(b"")
    with pytest.raises(ValueError, match=f"^{tmp_path} lacks .*there is {tmp_path / there}; .*must hold MNIST/raw/"):
        data.load("mnist", "test", tmp_path)


@pytest.mark.parametrize("archive", ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"])
def test_a_packed_archive_is_named_and_what_works(tmp_path, originals, no_download, archive):
    packed = tmp_path / archive
    packed.write_bytes(b"")
    layouts = r"must hold MNIST/raw/, FashionMNIST/raw/ and cifar-10-batches-bin/ \(or cifar-10-batches-py/\)"
    for root in (tmp_path, packed):
        with pytest.raises(ValueError, match=f"^{root} lacks .*there is {packed}; .*{layouts}.*unpacked or as .gz"):
            data.load("cifar10", "test", root)


def test_a_file_far_too_large_is_refused_without_being_read(tmp_path, originals, no_download):
    """A gigabyte of zeros in a megabyte of gzip, and two in a file with a hole: neither may come into memory."""
    contents, _ = originals
    lay_out(tmp_path, contents)
    for path, size in (("MNIST/raw/t10k-images-idx3-ubyte.gz", 2**30), ("cifar-10-batches-bin/test_batch.bin", 2**31)):
        (tmp_path / path.removesuffix(".gz")).unlink()
        with (tmp_path / path).open("wb") as file:
            if path.endswith(".gz"):
                packer = zlib.compressobj(1, zlib.DEFLATED, 31)
                for _ in range(size >> 20):
                    file.write(packer.compress(bytes(2**20)))
                file.write(packer.flush())
            else:
                file.truncate(size)
    tracemalloc.start()
    for name in ("mnist", "cifar10"):
        with pytest.raises(ValueError, match="is not the original"):
            data.load(name, "test", tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 4 * prlib.originals.LARGEST
    tracemalloc.stop()


def stop_halfway(root, mirrors):
    """Begin to load, and be interrupted when half of the first file is there."""
    get = download.pooch.HTTPDownloader.__call__

    def interrupted(*arguments):
        mirrors.drops = 1
        with pytest.raises(download._DROPPED):
            get(*arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download.pooch.HTTPDownloader, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            data.load("mnist", "test", root)


def test_a_stopped_download_goes_on_where_it_was_and_leaves_nothing_in_the_end(tmp_path, originals, mirrors):
    for _ in range(2):
        stop_halfway(tmp_path, mirrors)
    assert len(list(tmp_path.rglob("*.partial"))) == 1 and len(list(tmp_path.rglob(".download*"))) == 1
    mirrors.requests.clear()
    np.testing.assert_array_equal(data.load("mnist", "test", tmp_path).images, originals[1]["mnist", "test"][0])
    size = len(mirrors.bodies["/a" + TRAIN_URL])
    starts = [start for path, start in mirrors.requests if path == "/a" + TRAIN_URL]
    assert len(starts) == 1 and starts[0] >= size // 2
    assert files(tmp_path) == MNIST_GZ and not list(tmp_path.rglob(".download"))


@pytest.mark.parametrize("left", ["wrong", "longer", "all", "all but the checksum"])
def test_what_a_stopped_download_left_is_not_trusted(tmp_path, originals, mirrors, left):
    path = "/a" + TRAIN_URL
    body = mirrors.bodies[path]
    folder = tmp_path / "MNIST/raw/.download"
    folder.mkdir(parents=True)
    name = path.rpartition("/")[2]
    content = {"wrong": b"?" * 99, "longer": body + b"?", "all": body, "all but the checksum": body[:-1] + b"?"}[left]
    (folder / f"{name}.partial").write_bytes(content)
    (folder / "tmpabc").write_bytes(b"left by a kill")
    np.testing.assert_array_equal(data.load("mnist", "train", tmp_path).images, originals[1]["mnist", "train"][0])
    assert {p for p, _ in mirrors.requests if p.endswith(TRAIN_URL)} == {path}, "the first mirror is enough"
    assert files(tmp_path) == MNIST_GZ


def test_a_full_disk_is_named(tmp_path, originals, mirrors):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a write beyond it fails as on a full disk
    try:
        with pytest.raises(OSError, match=f"{tmp_path} lacks MNIST/raw/.* and cannot be written to .*too large"):
            data.load("mnist", "test", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(data.load("mnist", "test", tmp_path)) == 20 and files(tmp_path) == MNIST_GZ
