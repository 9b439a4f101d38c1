"""The fuzz program finds nothing, and finds what is there."""

import runpy
from pathlib import Path

import pytest
import torch

from prlib import cases

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def program() -> dict:
    return runpy.run_path(str(ROOT / "benchmarks" / "fuzz.py"))


def test_sixty_cases_of_each_kind_fail_nowhere(program: dict, capsys: pytest.CaptureFixture[str]) -> None:
    assert program["fuzz"](seed=1, cases=60) == 0, capsys.readouterr().out
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["attacks", "judge", "command line", "snapshots"]
    assert all(" refused" in line for line in lines)
    assert [" done" in line for line in lines] == [True, True, True, False]  # no changed bit of a snapshot passes


def test_it_finds_a_judgement_that_hands_over_its_own_images(
    program: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(program["fuzz"].__globals__, "KINDS", {"judge": program["KINDS"]["judge"]})
    monkeypatch.setattr(cases, "in_order", lambda images: images)
    monkeypatch.setattr(torch.Tensor, "clone", lambda self, **_: self)
    assert program["fuzz"](seed=1, cases=30) > 0
    assert "the twin differs" in capsys.readouterr().out
