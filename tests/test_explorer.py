"""The page of all numbers: its rows against the records and the paper's tables, and the page in a browser."""

import csv
import io
import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from prlib import paper
from prlib.pages.explorer import numbers
from prlib.pages.records import committed

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return numbers({"all images": committed("published"), "a tenth of the images": committed("tenth")})


def test_every_cell_of_every_record_has_a_row_and_every_number_of_the_paper_has_one(rows):
    for profile, scale in (("published", "all images"), ("tenth", "a tenth of the images")):
        cells = set()
        for record in committed(profile):
            e, training = record.experiment, record.experiment.training
            network = (training.dataset, training.defence.name, training.n_train, training.recipe)
            images = (e.n_test, e.drawn, e.draws)
            of = (len(e.attacks),)
            for cell in record.cells if e.split == "test" else ():
                what = (cell.tested_with, cell.epoch, cell.attack, cell.epsilon, cell.case)
                cells.add((*network, *images, *what, *(of if cell.attack == "strongest" else ())))
        assert sum(row["scale"] == scale for row in rows) == len(cells)
    what = ["dataset", "defence", "used", "attack", "case", "epochs"]
    printed = {tuple(row[name] for name in what) for row in rows if row["paper"] is not None}
    once = paper.tables().query("case != 'normal' and table in [2, 5, 6, 7]")
    alike = once.assign(defence=once.defence.where(once.phase != "none", "none"))
    assert len(printed) == len(alike.drop_duplicates(["dataset", "defence", "phase", "attack", "case", "epochs"]))


def test_accuracies_are_those_of_the_records_and_agreement_is_judged_at_the_papers_scale_alone(rows):
    for row in rows[::37]:
        if not row["record"]:
            assert row["ours"] is None and row["scale"] == "not measured"
            continue
        profile = "published" if row["scale"] == "all images" else "tenth"
        record = json.loads((ROOT / "results" / profile / "records" / f"{row['record']}.json").read_text("utf-8"))
        ours = [cell["correct"] / cell["total"] for cell in record["cells"]]
        assert (
            any(abs(row["ours"] - one) < 1e-4 for one in ours) or row["seeds"] > 1 or record["experiment"].get("draws")
        )
    assert all(row["agrees"] is None for row in rows if row["scale"] != "all images" or row["paper"] is None)
    assert any(row["agrees"] is False for row in rows) and any(row["agrees"] for row in rows)


def test_the_page_filters_sorts_and_keeps_its_choice_in_the_address(tab: Page, problems, rows):
    wanted = {"dataset": "MNIST", "attack": "MIM", "scale": "all images"}
    chosen = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    tab.goto("book/explorer.html")
    count = tab.locator("#numbers .count")
    expect(count).to_have_text(f"{len(rows):,} of {len(rows):,} numbers")
    for name, value in wanted.items():
        tab.locator(f"#numbers select[name={name}]").select_option(value)
    expect(count).to_have_text(f"{len(chosen)} of {len(rows):,} numbers")
    tab.get_by_role("button", name="ours [95% interval]").click()
    shown = [float(text.split()[0]) for text in tab.locator("#numbers tbody td:nth-child(10)").all_inner_texts()]
    assert shown == sorted(row["ours"] for row in chosen)[:50]
    both = [row for row in chosen if row["paper"] is not None]
    expect(tab.locator("#numbers .scatter a")).to_have_count(len(both))
    tab.goto("about:blank")
    tab.goto(f"book/explorer.html#{'&'.join(f'{n}={v}' for n, v in wanted.items())}")
    expect(count).to_have_text(f"{len(chosen)} of {len(rows):,} numbers")
    assert problems == []


def test_what_is_shown_can_be_taken_along_and_each_number_leads_to_its_record(tab: Page, site: Path, rows):
    tab.goto("book/explorer.html#dataset=MNIST&agrees=no")
    chosen = [row for row in rows if row["dataset"] == "MNIST" and row["agrees"] is False]
    with tab.expect_download() as download:
        tab.get_by_role("button", name="CSV").click()
    taken = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8"))))
    assert [float(row["ours"]) for row in taken] == [row["ours"] for row in chosen]
    with tab.expect_download() as download:
        tab.get_by_role("button", name="JSON").click()
    assert json.loads(Path(download.value.path()).read_text("utf-8")) == chosen
    links = tab.locator("#numbers tbody a, #numbers .scatter a").evaluate_all(
        "all => all.map(a => a.href.baseVal ?? a.href)"
    )
    assert links and all((site / "records" / link.rsplit("/", 1)[1]).is_file() for link in links)
    with (site / "numbers.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
