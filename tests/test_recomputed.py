"""Every verdict and number in prose that the chapters show, against ``recompute``, which knows the records alone."""

import itertools
import re
import sys
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from unittest.mock import MagicMock

import nbformat
import pytest
import recompute
from recompute import CLAIMS, PAPER, ROOT

from prlib import pages
from prlib.data import DATASETS
from prlib.findings import conclusions

TITLES = {name: data.title for name, data in DATASETS.items()}
SIDES = {"for": "for redrawing", "against": "against it", "neither": "neither for nor against it"}
PREFIXES = {"q1": "question-1", "q2": "question-2", "q3": "question-3", "q4": "question-4", "robust": "robust"}
WORDS = ("yes", "partly", "mixed", "open", "partly not", "no", "not testable")


def chapter(name):
    return nbformat.read(ROOT / "book" / f"{name}.ipynb", 4)


def told_by(cell):
    """What a cell says in Markdown, without links to records and without classes."""
    texts = [output.get("data", {}).get("text/markdown", "") for output in cell.get("outputs", [])]
    return [plain("".join(text)) for text in texts]


def plain(text):
    text = re.sub(r"\[([^\]]*)\]\(record:[^)]*\)(\{[^}]*\})?", r"\1", text)
    return re.sub(r"\[([^\]]*)\]\{\.(?:verdict [^}]*|seeds)\}", r"\1", text)


def table(name, title):
    """The rows of a chapter's table of this name, each a dict."""
    texts = [text for cell in chapter(name).cells for text in told_by(cell)]
    (text,) = [text.split(f":name: {title}\n")[1].split("\n:::")[0] for text in texts if f":name: {title}\n" in text]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [dict(zip([column.strip() for column in lines[0]], line, strict=False)) for line in lines[2:]]


def test_a_mean_over_trainings_lies_among_them():
    """Of every number in a table with several trainings: "mean (seeds …) [interval] (least to most)", with records."""
    seeds = r"\[ \(seeds (?:(?:, )?\[\d+\]\(record:[^)]*\)){2,}\)\]\{\.seeds\}"
    interval, end = r"(?: \[\d\.\d+,\s\d\.\d+\])?", r"\[(\d\.\d+)\]\(record:[^)]*\)"
    pattern = rf"(\d\.\d+){seeds}{interval} \({end} to {end}\)"
    texts = [
        "".join(output.get("data", {}).get("text/markdown", ""))
        for path in sorted((ROOT / "book").glob("*.ipynb"))
        for cell in chapter(path.stem).cells
        for output in cell.get("outputs", [])
    ]
    means = [tuple(map(float, found)) for text in texts for found in re.findall(pattern, text)]
    assert len(means) >= 20 and all(low - 0.0006 <= mean <= high + 0.0006 for mean, low, high in means), means


@pytest.fixture(scope="module")
def found():
    """The rows of each profile, and the claims judged by them."""
    names = {
        profile: [path.stem for path in (ROOT / "results" / profile / "records").glob("*.json")]
        for profile in ("published", "tenth")
    }
    rows = {profile: recompute.rows(sorted(names[profile]), profile) for profile in names}
    verdicts = {profile: {claim["id"]: recompute.judged(claim, rows[profile]) for claim in CLAIMS} for profile in rows}
    return SimpleNamespace(rows=rows, verdicts=verdicts)


def supported(comparisons):
    return recompute.word([one["outcome"] for one in comparisons])


def evidence(comparisons):
    """What stands beside a verdict: that on each dataset, and how many comparisons are behind it."""
    datasets = dict.fromkeys(one["where"]["dataset"] for one in comparisons)
    by = [
        f"{TITLES[dataset]} {supported([one for one in comparisons if one['where']['dataset'] == dataset])}"
        for dataset in datasets
    ]
    counts = [
        f"{text} in {n}"
        for text, outcome in (("holds", "holds"), ("fails", "fails"), ("is open", "open"))
        if (n := [one["outcome"] for one in comparisons].count(outcome))
    ]
    return sorted(by), f"{', '.join(counts)} of {len(comparisons)} comparisons"


def read(text):
    """A verdict as a page says it: the word, the datasets, the counts."""
    word = next(word for word in sorted(WORDS, key=len, reverse=True) if text.startswith(word))
    datasets, _, counts = text[len(word) :].strip().partition(": ")
    return word, (sorted(filter(None, datasets.split(", "))), counts)


@pytest.mark.parametrize(
    ("profile", "name", "prefix"),
    [("published", "verdicts-q", "q"), ("tenth", "verdicts-q-tenth", "q"), ("published", "verdicts-beyond", "robust")],
)
@pytest.mark.slow
def test_verdicts(found, profile, name, prefix):
    shown = {row["claim"]: row for row in table("verdict", name)}
    claims = [claim for claim in CLAIMS if claim["id"].startswith(prefix)]
    assert len(shown) == len(claims)
    for claim in claims:
        row = shown[f"{claim['claim']} ({claim['place']})"]
        comparisons, agree = found.verdicts[profile][claim["id"]]
        expected = evidence(comparisons) if comparisons else ([], "")
        assert read(row["claim supported?"]) == (supported(comparisons), expected), claim["id"]
        if agree:
            word = {True: "yes", False: "no"}.get(agree[0]) if len(set(agree)) == 1 else "mixed"
            assert row["numbers reproduced?"] == f"{word} {sum(agree)} of {len(agree)}", claim["id"]
        else:
            assert not row.get("numbers reproduced?"), claim["id"]


def test_the_answer_for_each_dataset(found):
    """Whether both phases resist adaptive attacks: above guessing and the undefended network, within 5% of clean."""
    rows = found.rows["published"]
    (said,) = (text for cell in chapter("robust").cells if "pages.resists(" in cell.source for text in told_by(cell))
    lines = {title: line for line in said.split("\n") for title in TITLES.values() if line.startswith(f"- **{title}:")}
    shown = set()
    for dataset, title in TITLES.items():
        strongest = [r for r in rows if r["dataset"] == dataset and r["attack"] == "strongest" and r["epsilon"] == 0]
        for defence in ("pr", "pr-multi"):
            known = {"dataset": dataset, "attack": "strongest", "case": "adaptive"}
            where = {
                "clean": {"dataset": dataset, "defence": defence, "phase": "both", "attack": ""},
                "known": known | {"defence": defence, "phase": "both"},
                "bare": known | {"defence": "none"},
            }
            clean = [row for row in rows if not row["attack"]]
            sets = ([row for row in strongest if bool(row["drawn"]) == at_random] for at_random in (True, False))
            complete = [found for some in sets if len(found := recompute.told(where, [*some, *clean])) == 3]
            if not complete:
                continue
            numbers = complete[0]
            resists = recompute.guard_holds((((1, "known"), (-1, "bare")), "above", 0.05), numbers)
            resists = resists and recompute.guard_holds((((1, "known"),), "above", 0.1), numbers)
            same = recompute.guard_holds((((1, "known"), (-1, "clean")), "same", 0.05), numbers)
            answer = ("it resists" if same else "it partly resists") if resists else "it does not resist"
            assert answer in lines[title]
            for name in ("clean", "known", "bare") if defence == "pr" else ("known",):
                _, _, common, share = numbers[name]
                low, high = recompute.wilson(share, len(common))
                said = f"{recompute.percent(share)} [{low:.0%},\u00a0{high:.0%}]"
                assert said in lines[title], (title, defence, name)
            shown.add(title)
    assert shown == set(lines) and shown


@pytest.mark.parametrize("profile", ["published", "tenth"])
def test_every_comparison(found, profile):
    shown = table("verdict", f"comparisons-all-{profile}")
    expected = []
    for claim in CLAIMS:
        for one in found.verdicts[profile][claim["id"]][0]:
            where = one["where"]
            row = [f"`{claim['id']}`", TITLES[where["dataset"]], f"{where['epochs']:,}", f"{one['images']:,}"]
            if one["p"] is not None:
                row.append("{mean:+.3f} [{low:+.3f},\u00a0{high:+.3f}]".format(**one).replace("-", "−"))
                row += [f"{p:.3f}" if p >= 0.001 else "<0.001" for p in (one["p"], one["adjusted"])]
            expected.append((*row, one["outcome"]))
    columns = ["claim", "dataset", "epochs", "images", "difference [95% interval]", "p", "p (Holm)"]
    said = []
    for row in shown:
        values = [row[name].strip() for name in columns]
        said.append((*[value for value in values if value not in ("", "–")], row["outcome"].strip()))
    assert sorted(said) == sorted(expected) and len(said) > 100


def test_the_scoreboard(found):
    (text,) = [t for cell in chapter("verdict").cells for t in told_by(cell) if t.startswith("| question |")]
    shown = {
        tuple(line.strip("| ").split(" | ")[:2]): line.strip("| ").split(" | ")[2:] for line in text.splitlines()[2:]
    }
    for prefix, title in PREFIXES.items():
        for side, speaks in SIDES.items():
            claims = [c["id"] for c in CLAIMS if c["id"].startswith(prefix) and c["speaks"] == side]
            row = shown.pop((f"{{ref}}`{title}`", speaks), None)
            assert (row is None) == (not claims)
            for profile, said in zip(("published", "tenth"), row or (), strict=False):
                words = [supported(found.verdicts[profile][name][0]) for name in claims]
                counts = " ".join(f"{word} {words.count(word)}" for word in WORDS if word in words)
                assert said.strip() == counts, (prefix, side, profile)
    assert not shown


def test_the_summary(found):
    said = [t for cell in chapter("verdict").cells for t in told_by(cell)]
    (text,) = [t for t in said if t.startswith("Of the paper's")]
    assert re.findall(r"Of the paper's (\d+) claims", text) == [str(sum("cells" in claim for claim in CLAIMS))]
    for side, title in SIDES.items():
        ids = [c["id"] for c in CLAIMS if "cells" in c and c["speaks"] == side]
        each = [[supported(found.verdicts[profile][id_][0]) for profile in ("published", "tenth")] for id_ in ids]
        words = [full if full != "not testable" else tenth for full, tenth in each]
        counts = ", ".join(f"{word} {words.count(word)}" for word in WORDS if word in words)
        assert f"- {len(words)} speak {title}: {counts}." in text
    once = PAPER[PAPER.table.isin([2, 5, 6, 7]) & (PAPER.case != "normal")].drop(columns=["table", "accuracy"])
    once = once.assign(defence=once.defence.where(once.phase != "none", "none")).drop_duplicates()
    counted = PAPER.loc[once.index]
    each = [
        one
        for _, theirs in counted.iterrows()
        for one in recompute.agreements(found.rows["published"], {name: [value] for name, value in theirs.items()})
    ]
    often = [agrees for agrees, _, trainings in each if trainings > 2]
    agree = [agrees for agrees, _, _ in each]
    (numbers,) = [t for t in said if t.startswith("The paper prints")]
    for part in (
        f"prints {len(counted)} different accuracies. We measured **{len(each)} at",
        f"**{sum(agree)} of these agree**",
        f"{sum(often)} of {len(often)} lie where",
        f"{sum(agree) - sum(often)} of the other {len(each) - len(often)} within",
        f"alone, {sum(agrees and not tolerated for agrees, tolerated, _ in each)} of those that agree would not",
        f"and {sum(tolerated and not agrees for agrees, tolerated, _ in each)} of those that do not would",
        f"remaining {len(counted) - len(each)} on a tenth",
    ):
        assert part in numbers


CHAPTERS = ["index", "question1", "question2", "question3", "question4", "robust", "rivals", "attacks", "deviations"]


def calls_of_tell(name, monkeypatch):
    """Each call of ``pages.tell`` in a chapter: records' names, text, guards, selections; nothing else is computed."""
    calls = []

    def tell(records, text, *guards, **where):
        calls.append((sorted({record.experiment.name for record in records}), text, guards, where))

    for function in pages.__all__:
        value = getattr(pages, function)
        if callable(value) and function not in ("committed", "obtain", "start", *vars(conclusions)):
            monkeypatch.setattr(pages, function, MagicMock())
    monkeypatch.setattr(pages, "tell", tell)
    monkeypatch.setattr("prlib.pages.records.display", lambda *_: None)
    monkeypatch.setattr("prlib.findings.cells.measured", MagicMock())
    for function in ("checks.worst_cases", "rivals.compared"):
        monkeypatch.setattr(f"prlib.findings.{function}", MagicMock())
    for function in ("against_default", "either_label", "farther"):
        monkeypatch.setattr(f"prlib.findings.variants.{function}", MagicMock())
    monkeypatch.setattr("prlib.findings.choices.ablations", MagicMock())
    for function in [n for n in dir(pages.figures) if n.islower() and callable(getattr(pages.figures, n))]:
        monkeypatch.setattr(pages.figures, function, MagicMock())
    namespace = {"display": lambda *_: None}
    for cell in chapter(name).cells:
        if cell.cell_type == "code" and "colab" not in cell.id:
            before = len(calls)
            try:
                exec(cell.source, namespace)
            except Exception:  # what a cell does with the results that are left out here
                assert "pages.tell" not in cell.source
            for call in calls[before:]:
                yield cell, call


def seeds_of(row):
    """What is said of a number's trainings if they are several."""
    return f" (seeds {', '.join(map(str, sorted(row['bits'])))})" if len(row["bits"]) > 1 else ""


@pytest.mark.parametrize("name", CHAPTERS)
@pytest.mark.slow
def test_numbers_in_prose_and_what_is_concluded(found, name, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    cells = list(calls_of_tell(name, monkeypatch))
    assert len(cells) == sum(cell.source.count("pages.tell(") for cell in chapter(name).cells)
    for cell, (names, text, guards, where) in cells:
        (profile,) = {
            p for p in ("published", "tenth") if (Path(ROOT, "results", p, "records", f"{names[0]}.json")).exists()
        }
        numbers = recompute.told(where, [row for row in found.rows[profile] if row["record"] in names])
        mean_of = {name_: seeds_of(row) for name_, (row, _, _, _) in numbers.items()}
        values = {name_: recompute.percent(share) + mean_of[name_] for name_, (_, _, _, share) in numbers.items()}
        values |= {f"{name_}_images": f"{len(common):,}" for name_, (_, _, common, _) in numbers.items()}
        values |= {f"{name_}_whole": f"{share:.0%}{mean_of[name_]}" for name_, (_, _, _, share) in numbers.items()}
        values |= {f"{name_}_attacks": f"{row['of']}" for name_, (row, _, _, _) in numbers.items()}
        for one, other in itertools.permutations(numbers, 2):
            if f"{{{one}_to_{other}}}" in text:
                pair = ((1, one), (-1, other))
                above = recompute.guard_holds((pair, "above", 0.0), numbers)
                below = recompute.guard_holds((((1, other), (-1, one)), "above", 0.0), numbers)
                values[f"{one}_to_{other}"] = {(True, False): "above", (False, True): "below"}.get(
                    (above, below), "level with"
                )
        whole, unmeasured = "\n".join(told_by(cell)), set(where) - set(numbers)
        for sentence in re.split(r"(?<=\.) (?=[A-Z])", text):
            names_of = {field for _, field, _, _ in Formatter().parse(sentence) if field}
            if any(name_ in field for field in names_of - set(values) for name_ in unmeasured):
                assert sentence.partition("{")[0] not in whole or sentence.startswith("{")
                break  # what was not measured is not told, nor what rests on it
            assert sentence.format(**values) in whole, sentence
        for guard in guards:
            assert recompute.guard_holds((guard.terms, guard.relation, guard.bound), numbers), (text, guard)
    said = [text for cell in chapter(name).cells if "pages.tell(" in cell.source for text in told_by(cell)]
    assert all(said)


def test_counts_in_the_chapters_on_attacks_and_cases(found):
    """Differences between the labels given, variants beyond chance, and which case is farther."""
    said = "\n".join(text for name in ("attacks", "cases") for cell in chapter(name).cells for text in told_by(cell))
    cells = {}
    for row in sorted(found.rows["published"], key=lambda row: row["n_test"]):
        if row["defence"] == "pr" and row["attack"] and row["phase"] == "" and row["epsilon"] == 0:
            cells[row["dataset"], row["attack"], row["case"]] = row
    wrong = right = 0
    for (dataset, attack, case), row in cells.items():
        if case == "B" and (true := cells.get((dataset, f"{attack}-true", "B"))):
            for place, bit in row["bits"][0].items():
                if bit != true["bits"][0][place]:
                    right += row["before"][0][place]
                    wrong += 1 - row["before"][0][place]
    assert (
        f"Of the {wrong + right:,} images at which two attacks of this table differ {wrong:,} were wrong before" in said
    )
    assert f"before, and {right:,} were right" in said
    for variant, title in (("true", "true labels"), ("quarter", "steps of ε/4"), ("eq4", "the paper's Eq. 4")):
        pairs = [
            recompute.sums([(1, row, False), (-1, cells[dataset, attack.partition("-")[0], case], False)])
            for (dataset, attack, case), row in cells.items()
            if attack.endswith(f"-{variant}")
        ]
        clear = [
            pair.mean()
            for pair, p in zip(pairs, recompute.holm([recompute.p_value(pair) for pair in pairs]), strict=True)
            if p <= 0.05
        ]
        stronger, weaker = sum(mean < 0 for mean in clear), sum(mean > 0 for mean in clear)
        counts = f"clearly stronger in {stronger}, clearly weaker in {weaker}, neither in {len(pairs) - len(clear)}"
        assert f"- **{title}**: {counts} of {len(pairs)} comparisons." in said
    for case, other in (("C", "B"), ("C", "A"), ("A", "B")):
        pairs = [
            (row, cells[dataset, attack, other])
            for (dataset, attack, case_), row in cells.items()
            if case_ == case and attack in ("fgsm", "bim", "mim", "cw")
        ]
        l0, l2, linf = (sum(here[name] > there[name] for here, there in pairs) for name in ("l0", "l2", "linf"))
        assert (
            f"- Case {case} is farther from the clean image than case {other} by L0 in {l0}, by L2 in {l2} and by L∞ "
            f"in {linf} of {len(pairs)} pairs of a dataset and an attack."
        ) in said
