"""What is committed stays what it is, whatever is rebuilt around it: names, keys and records."""

import json
from pathlib import Path

import pytest
from conftest import ROOT

from prlib.experiment import to_json
from prlib.profiles import PROFILES, Parameters
from prlib.record import read_record

RECORDS = sorted(ROOT.glob("results/*/records/*.json"))
NAMES = json.loads(Path(__file__).with_name("names.json").read_text())


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profiles_experiments_and_trainings_keep_their_names_and_order(profile: str) -> None:
    names = [[e.name, e.training.name] for e in Parameters(profile).experiments()]
    assert names == NAMES[profile]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_committed_record_reads_and_is_written_the_same(path: Path) -> None:
    record = read_record(path)
    assert json.dumps(to_json(record), indent=1) + "\n" == path.read_text("utf-8")
    assert path.stem == record.experiment.name


def test_there_are_committed_records() -> None:
    assert {path.parts[-3] for path in RECORDS} >= {"published", "tenth"} and len(RECORDS) > 150
