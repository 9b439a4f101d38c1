"""Results that travel: what is packed arrives; nothing that is damaged, tampered with or there already gets in."""

import hashlib
import io
import json
import math
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from filelock import FileLock
from safetensors.torch import load, save

from prlib import tar
from prlib.archive import check_record, merge, pack
from prlib.command_line import main
from prlib.experiment import Experiment, Training, to_json
from prlib.profiles import default_attack, default_defence, default_recipe
from prlib.run import Context, run, verify
from prlib.store import Store
from prlib.tar import Member

torch.set_num_threads(1)


def quiet(store):
    return Context(store, progress="none")


def tiny(epochs=(1, 2), attacks=()):
    training = Training("mnist", "sample", 130, default_defence("none", "mnist"), default_recipe("mnist"), 0)
    made = tuple(default_attack(name, "mnist") for name in attacks)
    return Experiment(training, (default_defence("none", "mnist"),), epochs, 21, made, ("B",) if made else ())


EXPERIMENTS = [tiny(), tiny((2,), ["fgsm"])]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("here") / "sample")
    for experiment in EXPERIMENTS:
        run(experiment, quiet(store))
    return store


@pytest.fixture(scope="module")
def packed(store, tmp_path_factory):
    (path,) = pack(store, EXPERIMENTS, tmp_path_factory.mktemp("packed"), 60)
    return path


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_what_is_packed_arrives_and_a_second_time_changes_nothing(store, packed, tmp_path):
    root, new, there = merge([packed], tmp_path)
    arrived = contents(tmp_path)
    expected = {f"sample/{path}": content for path, content in contents(store.root).items() if "checkpoint" not in path}
    assert (root, new, there) == (tmp_path / "sample", 4, 0) and arrived == expected
    assert verify(run(tiny(), quiet(Store(root))), quiet(Store(root)), 21) == (42, 42)
    assert merge([packed], tmp_path)[1:] == (0, 4) and contents(tmp_path) == arrived


def test_the_digests_are_those_that_sha256sum_checks(packed, tmp_path):
    subprocess.run(["tar", "xf", packed], cwd=tmp_path, check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "sample/SHA256SUMS"], cwd=tmp_path, check=True)


def test_an_archive_is_the_same_bytes_again(store, packed, tmp_path):
    (again,) = pack(store, EXPERIMENTS, tmp_path, 60)
    assert again.read_bytes() == packed.read_bytes()


def test_old_archives_stay_until_the_new_ones_are_written(store, tmp_path, monkeypatch):
    pack(store, EXPERIMENTS, tmp_path, 3.0)
    before = contents(tmp_path)

    def full(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("prlib.archive.tar.write", full)
    with pytest.raises(OSError, match="no space"):
        pack(store, EXPERIMENTS, tmp_path, 60)
    assert contents(tmp_path) == before


def test_parts_can_be_merged_alone_or_together(store, tmp_path):
    mine = tmp_path / "results-of-mine.tar"
    for path in (tmp_path / "results-9.tar", mine):
        path.touch()
    parts = pack(store, EXPERIMENTS, tmp_path, 3.0)
    assert len(parts) == 2 and max(path.stat().st_size for path in parts) <= 3.0e6
    assert sorted(tmp_path.glob("results-*.tar")) == [*parts, mine]
    merge(parts[:1], tmp_path / "there")
    root, new, there = merge(parts, tmp_path / "there")
    assert new >= 1 and new + there == 4
    assert contents(root) == {k: v for k, v in contents(store.root).items() if "checkpoint" not in k}
    with pytest.raises(ValueError, match=r"--megabytes must be at least 2\.9 for sample/weights/"):
        pack(store, EXPERIMENTS, tmp_path, 2.0)


def test_an_unfinished_training_brings_its_checkpoint_and_goes_on_elsewhere(store, tmp_path):
    longer = tiny((1, 2, 4))
    (archive,) = pack(store, [longer], tmp_path, 60)
    names = [member.name for member in tar.read(archive)]
    assert f"sample/weights/{longer.training.name}/checkpoint.safetensors" in names
    root, *_ = merge([archive], tmp_path / "there")
    whole = run(longer, quiet(Store(tmp_path / "whole")))
    assert run(longer, quiet(Store(root))).cells == whole.cells


def with_sums(members: list[Member]) -> list[Member]:
    lines = [f"{hashlib.sha256(m.content).hexdigest()}  {m.name}\n" for m in members]
    return [Member("sample/SHA256SUMS", "".join(lines).encode()), *members]


def edit_record(change):
    def changed(members):
        index = next(i for i, m in enumerate(members) if "-clean-" in m.name)
        data = json.loads(members[index].content)
        members[index] = replace(members[index], content=json.dumps(change(data) or data).encode())
        return with_sums(members)

    return changed


def edit_network(change):
    def changed(members):
        index = next(i for i, m in enumerate(members) if m.name.endswith(".safetensors"))
        members[index] = replace(members[index], content=change(members[index].content))
        return with_sums(members)

    return changed


def moved(name, kind=".json"):
    def changed(members):
        index = next(i for i, m in enumerate(members) if m.name.endswith(kind))
        members[index] = replace(members[index], name=name)
        return with_sums(members)

    return changed


def elsewhere(members):
    return [
        Member(m.name.replace("sample/", "elsewhere/", 1), m.content.replace(b" sample/", b" elsewhere/"))
        for m in with_sums(members)
    ]


def flip(data):
    data["cells"][0]["correct"] ^= 1


def fill(data):
    data["cells"][0]["success"] = data["cells"][0]["success"][:-1] + "f"  # 21 bits leave 3 in the last byte


def shorten(data):
    data["cells"][0]["success"] = data["cells"][0]["success"][:-2]


def spoil(data):
    data["cells"][0]["success"] = "zz" + data["cells"][0]["success"][2:]


def reshaped(content):
    tensors = load(content)
    tensors["0.weight"] = tensors["0.weight"][:32].contiguous()
    return save(tensors, {"source": "sample", "dataset": "mnist", "seconds": "1"})


TAMPERED = {
    "a wrong digest": (lambda members: [*with_sums(members)[:-1], replace(members[-1], content=b"?")], "digests"),
    "no digests": (lambda members: members, "digests"),
    "a file without digest": (lambda members: [*with_sums(members[1:]), members[0]], "digests"),
    "a digest without file": (lambda members: with_sums(members)[:-1], "digests"),
    "a path upwards": (moved("sample/../../records/x.json"), "no path of a record"),
    "a path upwards within": (moved("sample/weights/../records/x.json"), "no path of a record"),
    "an absolute path": (moved("/records/x.json"), "no path of a record"),
    "a hidden file": (moved("sample/records/.x.json"), "no path of a record"),
    "a program": (moved("sample/weights/sitecustomize.py"), "no path of a record"),
    "a file twice": (lambda members: with_sums([*members, members[0]]), "each once"),
    "two stores": (moved("paper/records/x.json"), "one store"),
    "another store": (elsewhere, "one store among sample, published, tenth, paper, custom; got elsewhere"),
    "an edited count": (edit_record(flip), "bits are set"),
    "bits that are no examples": (edit_record(fill), "does not hold 21 bits"),
    "too few bits": (edit_record(shorten), "does not hold 21 bits"),
    "bits that are none": (edit_record(spoil), "non-hexadecimal"),
    "a cell too few": (edit_record(lambda data: data["cells"].pop() and None), "cells are not those of its"),
    "a cell twice": (edit_record(lambda data: data["cells"].append(data["cells"][0])), "cells are not those of its"),
    "an older version": (edit_record(lambda data: data.update(results=1)), "must have schema 1 and results"),
    "another schema": (edit_record(lambda data: data.update(schema=0)), "must have schema 1"),
    "another experiment": (
        edit_record(lambda data: data["experiment"]["training"].update(seed=7)),
        "its content is mnist-sample130-none-s7-e2-clean",
    ),
    "no record": (edit_record(lambda data: {"hello": 1}), "not a record"),
    "no network": (edit_network(lambda content: b"?" * 100), "not a safetensors file"),
    "half a network": (edit_network(lambda content: content[: len(content) // 2]), "not a safetensors file"),
    "another network": (edit_network(reshaped), "not a network of this library"),
    "another epoch's": (
        moved(f"sample/weights/{tiny().training.name}/epoch-0007.safetensors", ".safetensors"),
        "says that it is the network of mnist-.* after 1 epochs",
    ),
    "another training's": (
        moved("sample/weights/mnist-x/epoch-0001.safetensors", ".safetensors"),
        "says that it is the network of mnist-.* after 1 epochs",
    ),
    "another dataset's": (moved("sample/weights/cifar10-x/epoch-0001.safetensors", ".safetensors"), "not a network"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_refused_and_nothing_is_written(packed, tmp_path, what):
    change, named = TAMPERED[what]
    tar.write(change([m for m in tar.read(packed) if not m.name.endswith("SHA256SUMS")]), tmp_path / "x.tar")
    with pytest.raises(ValueError, match=named):
        merge([packed, tmp_path / "x.tar"], tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_only_plain_files_are_taken(packed, tmp_path, kind):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for member in tar.read(packed):
            info = tarfile.TarInfo(member.name)
            info.size = len(member.content)
            archive.addfile(info, io.BytesIO(member.content))
        info = tarfile.TarInfo("sample/records/link.json")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ValueError, match=r"plain files only; sample/records/link\.json"):
        merge([tmp_path / "x.tar"], tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("damage", [lambda content: content[:3_000_000], lambda content: b"no tar at all" * 99])
def test_a_damaged_archive_is_refused(packed, tmp_path, damage):
    (tmp_path / "x.tar").write_bytes(damage(packed.read_bytes()))
    with pytest.raises(ValueError, match=r"x\.tar"):
        merge([tmp_path / "x.tar"], tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_a_file_that_differs_stays_and_nothing_else_is_written(packed, tmp_path, kind):
    name = next(m.name for m in tar.read(packed) if m.name.endswith(kind))
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"ours")
    with pytest.raises(ValueError, match=name.removeprefix("sample/")):
        merge([packed], tmp_path)
    assert contents(tmp_path) == {name: b"ours"}


def test_a_training_that_is_running_is_left_alone(packed, tmp_path):
    folder = tmp_path / "sample" / "weights" / tiny().training.name
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"), pytest.raises(ValueError, match="a training is running there"):
        merge([packed], tmp_path)
    assert not contents(tmp_path)


def test_the_command_line_packs_and_merges(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path / "here"))
    sizes = ["mnist-sample130-none-s0-e2-clean", "--n-train", "130", "--n-test", "21", "--epochs", "1", "2"]
    assert main(["pack", *sizes, "--out", str(tmp_path)]) == 2
    assert "no record and no network" in capsys.readouterr().err
    assert main(["run", *sizes, "--progress", "none"]) == 0
    assert main(["pack", *sizes, "--out", str(tmp_path)]) == 0
    monkeypatch.setenv("PRLIB_RESULTS", str(tmp_path / "there"))
    capsys.readouterr()
    assert main(["merge", str(tmp_path / "results-1.tar")]) == 0
    assert capsys.readouterr().out == f"3 files are now in {tmp_path / 'there' / 'custom'}; 0 were there already\n"
    assert main(["list", "--names", *sizes]) == 0
    assert capsys.readouterr().out.startswith("ready ")
    assert main(["merge", str(tmp_path / "results-1.tar"), "--profile", "tenth"]) == 0
    assert contents(tmp_path / "there" / "tenth") == contents(tmp_path / "there" / "custom")
    wrong = [([str(tmp_path / "none.tar")], "none.tar"), ([str(tmp_path / "results-1.tar"), "--profile", "x"], "got x")]
    for arguments, named in wrong:
        assert main(["merge", *arguments]) == 2
        said = capsys.readouterr().err
        assert named in said and said.count("\n") == 1
    assert not (tmp_path / "there" / "x").exists()


def test_all_committed_records_would_be_taken():
    paths = sorted(ROOT.glob("results/*/records/*.json"))
    assert len(paths) > 100
    for path in paths:
        check_record(path.read_bytes(), path)


def test_a_record_is_what_it_says_of_itself(store):
    record = run(EXPERIMENTS[1], quiet(store))
    path = store.record_path(record.experiment)
    check_record(json.dumps(to_json(record)).encode(), path)
    wrong = replace(record, cells=(replace(record.cells[0], attack="bim"),))
    with pytest.raises(ValueError, match="cells are not those of its"):
        check_record(json.dumps(to_json(wrong)).encode(), path)


@pytest.mark.parametrize("megabytes", [math.nan, 0, -1])
def test_parts_have_a_positive_size(megabytes):
    with pytest.raises(ValueError, match=f"--megabytes must be a positive number; got {megabytes:g}"):
        tar.split([Member("a", b"b")], megabytes)
