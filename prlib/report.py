"""What a chapter shows: its parameters, its records, and tables computed from them."""

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib_inline.backend_inline as inline
import pandas as pd
import torch
from IPython.display import Markdown, display
from torch.utils.flop_counter import FlopCounterMode

from prlib import figures, paper
from prlib.cases import Estimate
from prlib.data import DATASETS, load
from prlib.experiment import Experiment, Record, Store
from prlib.model import PaperCNN
from prlib.profiles import COMMITTED, OVERRIDES, PROFILES, Parameters, check_names, default_recipe, repository_results
from prlib.run import check_device, forget, run
from prlib.verdict import (
    COLUMNS,
    MORE,
    Verdict,
    ablations,
    checks,
    compare,
    judge_claims,
    linked,
    measured,
    reasons,
    worst_cases,
)

PHASE_TITLES = {"none": "nowhere", "train": "training", "test": "testing", "both": "both"}
"""Where the image is redrawn in each of Table 2's columns."""

WORDS = ("yes", "partly", "no", "open", "not testable")
"""What a verdict can say."""

BENCHMARKS = Path(__file__).parents[1] / "benchmarks" / "measured.json"
"""What ``make bench`` wrote last.

:meta hide-value:
"""

ATTACK_TITLES = {"fgsm": "FGSM", "bim": "BIM", "mim": "MIM", "cw": "CW"} | {
    "pgd": "PGD-40, 5 starts",
    "pgd-margin": "PGD-40 on the margin",
    "pgd-leap": "PGD-40 on the margin, steps of ε/2",
    "eot-pgd": "EOT-PGD",
    "eot-pgd-margin": "EOT-PGD on the margin",
    "eot-pgd-leap": "EOT-PGD on the margin, steps of ε/2",
    "mean-pgd": "PGD through the smooth mean",
    "crossing": "threshold crossing",
    "crossing-margin": "threshold crossing on the margin",
    "transfer": "PGD-40 on the undefended network, shown to this one",
    "square": "Square, 1,000 queries",
    "auto": "AutoAttack, random version",
    "strongest": "**the strongest, per image**",
}
"""What tables call each attack; ``attack_title`` knows their variants, too."""


def attack_title(name: str) -> str:
    """What tables call an attack; variants such as "eot-pgd-30-draws" and "fgsm@0.1" are called by what differs."""
    name, _, epsilon = name.partition("@")
    if epsilon:
        return f"{attack_title(name)}, ε = {epsilon}"
    if varied := re.fullmatch(r"(.+)-(\d+)-(\w+)", name):
        return f"{attack_title(varied[1])}, {varied[2]} {varied[3]}"
    return ATTACK_TITLES.get(name, name)


class Table:
    """A table of Markdown cells: MyST Markdown for the site, HTML where a notebook is read by itself.

    With a caption it is numbered. ``command`` is what measures its numbers again, shown below it.
    """

    def __init__(self, frame: pd.DataFrame, caption: str, name: str, command: str = "") -> None:
        self.frame, self.caption, self.name, self.command = frame, caption, name, command

    def __repr__(self) -> str:
        return f"Table {self.name}: {len(self.frame)} rows"

    def _repr_markdown_(self) -> str:
        if self.frame.empty:
            return f"*{self.caption} There is nothing to show in this profile yet.*"
        columns = list(self.frame.columns)
        rules = ["---:" if _is_numeric(self.frame[column]) else ":---" for column in columns]
        lines = [columns, rules, *self.frame.astype(str).values.tolist()]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        if not self.caption:
            return body
        below = f"\n```bash\n{self.command}\n```\n" if self.command else ""
        return f":::{{table}} {self.caption}\n:name: {self.name}\n\n{body}\n:::\n{below}"

    def _repr_html_(self) -> str:
        plain = self.frame.astype(str).map(lambda text: _plain(text))
        return plain.style.hide(axis="index").set_caption(self.caption).to_html(table_uuid=self.name)


def start(namespace: Mapping[str, Any]) -> Parameters:
    """Check a chapter's parameters and prepare its figures; called right after the parameters, with ``globals()``.

    Raises:
        ValueError: an unknown name or a value that is not allowed, in one sentence, before anything runs.
    """
    given = {name: value for name, value in namespace.items() if _is_parameter(name, value)}
    check_names(given)
    parameters = Parameters(**given)
    check_device(parameters.device)
    figures.style()
    inline.set_matplotlib_formats("svg", metadata={"Date": None})
    return parameters


def obtain(
    parameters: Parameters, trained_with: Sequence[str] | None = None, adaptive: bool | None = False
) -> list[Record]:
    """Load the records of the run's experiments, measuring what is missing where the profile is measured on demand.

    ``trained_with`` names the trainings that a chapter is about; None is all. Experiments whose attacks know the
    defence are left out (``adaptive`` is False), alone (True) or among the others (None). Says what is not measured
    yet, and what is stale; only current records are returned.
    """
    wanted = _wanted(parameters, trained_with, adaptive)
    if parameters.recompute:
        forget(wanted, parameters.store, parameters.device)
    if parameters.measured_on_demand:
        return [run(e, parameters.store, parameters.device) for e in wanted]
    stored = [parameters.store.load(e) for e in wanted]
    missing, stale = sum(r is None for r in stored), sum(r is not None and r.stale for r in stored)
    if missing or stale:
        text = f"Of this chapter's {len(wanted)} experiments in profile `{parameters.profile}`"
        text += f" {missing} have not been measured" * bool(missing) + " and" * bool(missing and stale)
        text += f" {stale} were measured by an older version of the code" * bool(stale)
        display(note(f"{text}. `make reproduce PROFILE={parameters.profile}` measures them."))
    return [r for r in stored if r is not None and not r.stale]


def note(text: str) -> Markdown:
    """A paragraph set apart."""
    return Markdown(f":::{{note}}\n{text}\n:::\n")


def committed(profile: str, trained_with: Sequence[str] | None = None, adaptive: bool | None = False) -> list[Record]:
    """The current records of a profile that is part of the repository, as far as they have been measured."""
    store = Store(repository_results() / profile)
    stored = [store.load(e) for e in _wanted(Parameters(profile=profile), trained_with, adaptive)]
    return [r for r in stored if r is not None and not r.stale]


def paper_and_ours(
    records: Iterable[Record],
    table: int,
    dataset: str,
    parameters: Parameters,
    epochs: Sequence[int] | None = None,
    aside: bool = True,
) -> Table:
    """The paper's numbers of a table and dataset beside ours, with 95% intervals, differences and links to records.

    A run of another profile gets the published numbers in a column of their own (if ``aside``). ``epochs`` restricts
    the rows; None is all of the table's. Rows that nothing was measured for are left out, unless that is all of them.
    """
    where = {"table": table, "dataset": dataset} | ({"epochs": epochs} if epochs else {})
    cells = compare(records, **where).sort_values("epochs", kind="stable")
    aside = aside and (parameters.custom or parameters.profile != "published")
    attacked = bool((cells.attack != "").any())
    published = compare(committed("published") if aside else [], **where)
    cells["published"], cells["published_record"] = published.ours, published.record
    cells["attack"] = cells.attack.where(cells.case != "normal", "")  # printed once for each attack
    cells = cells.drop_duplicates([*COLUMNS, "accuracy"])
    shown = cells.ours.notna() | cells.published.notna()
    left_out = 0 if not shown.any() else int((~shown).sum())
    cells = cells[shown] if shown.any() else cells
    rows = [
        {
            "epochs": f"{cell.epochs:,}",
            **({"defence": cell.defense} if cells.defense.nunique() > 1 else {}),
            **(_attacked(cell) if attacked else {"noise in" if table == 5 else "redrawn in": PHASE_TITLES[cell.phase]}),
            "paper": f"{cell.accuracy:.4f}",
            "ours [95% interval]": number(cell.ours, cell.record),
            "difference": _difference(cell),
            **({"published": number(cell.published, cell.published_record)} if cells.published.notna().any() else {}),
            "measured": "" if cell.ours is None else badge(parameters, cell, epochs=False),
        }
        for cell in cells.itertuples()
    ]
    caption = (
        f"Table {table} of the paper, {DATASETS[dataset].title}: accuracy{' under attack' * attacked}. "
        "✓ marks a difference within the tolerance, ✗ one beyond it, – what this profile does not measure."
    )
    if left_out:
        caption += f" The paper's other {left_out} rows are not measured in this profile."
    return Table(pd.DataFrame(rows), caption, f"paper-table-{table}-{dataset}", _run_command(parameters, dataset))


def long_training(
    table: int, parameters: Parameters, trained_with: Sequence[str], epochs: Sequence[int] | None = None
) -> None:
    """Show a table of the paper beside the long trainings on a tenth of the images, for each dataset measured."""
    records, missing = committed("tenth", trained_with), []
    seeds = ", ".join(sorted({f"{record.experiment.training.seed}" for record in records}))
    how = f", trained on a tenth of the images (chosen by seed {seeds}): accuracy"
    for dataset in parameters.chosen_datasets:
        beside = paper_and_ours(records, table, dataset, Parameters(profile="tenth"), epochs, aside=False)
        beside.name += "-long"
        beside.caption = beside.caption.replace(": accuracy", how)
        if beside.frame.empty:  # a dataset that the paper leaves out of the table
            continue
        if (beside.frame["ours [95% interval]"] == "–").all():
            missing.append(DATASETS[dataset].title)
        else:
            display(beside)
    if missing:
        display(note(f"Not measured yet on a tenth of the images: {', '.join(missing)}."))


def distances(records: Iterable[Record], parameters: Parameters) -> Table:
    """Mean distances between the clean and the final image, by attack and case."""
    cells = measured(records)
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "defence": cell.defense,
            "attack": attack_title(cell.attack),
            "case": cell.case,
            "L0": f"{cell.l0:,.0f}",
            "L2": f"{cell.l2:.2f}",
            "L∞": f"{cell.linf:.3f}",
            "measured": badge(parameters, cell),
        }
        for cell in cells[cells.attack != ""].itertuples()
    ]
    caption = "How far the final image is from the clean one, in each case (means over test images)."
    return Table(pd.DataFrame(rows), caption, "distances")


def accuracies(cells: pd.DataFrame, parameters: Parameters, caption: str, name: str) -> Table:
    """Our accuracies alone, where the paper has none: a row a cell of ``prlib.verdict.measured``."""
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "defence": cell.defense,
            "used in": PHASE_TITLES.get(cell.phase, ""),
            "attack": attack_title(cell.attack) + f" (of {cell.of})" * (cell.of > 0),
            "case": cell.case.replace("adaptive", ""),
            "accuracy [95% interval]": number(cell.ours, cell.record),
            "measured": badge(parameters, cell),
        }
        for cell in cells.itertuples()
    ]
    frame = pd.DataFrame(rows)
    return Table(frame.loc[:, (frame != "").any()] if rows else frame, caption, name)


def convergence(cells: pd.DataFrame) -> Table:
    """Attacks that know the defence, and the same with more of something (``prlib.verdict.MORE``)."""
    same = ["dataset", "defense", "phase", "epochs", "n_test"]
    found = {(cell.attack, *(getattr(cell, name) for name in same)): cell for cell in cells.itertuples()}
    pairs = [
        (cell, found.get((more, *where)))
        for (attack, *where), cell in found.items()
        for less, more in MORE
        if less == attack
    ]
    rows = [
        {
            "dataset": DATASETS[less.dataset].title,
            "attack": attack_title(less.attack),
            "accuracy": number(less.ours, less.record, interval=False),
            "with more": attack_title(more.attack),
            "accuracy with more": number(more.ours, more.record, interval=False),
            "difference [95% interval]": signed(more.ours.minus(less.ours)),
            "images": f"{less.n_test:,}",
        }
        for less, more in pairs
        if more is not None
    ]
    caption = "Does more of it help the attacker? Negative differences say that it does."
    return Table(pd.DataFrame(rows), caption, "convergence")


def rivals(records: Iterable[Record]) -> Table:
    """Defences side by side: clean, under the paper's attacks, under the strongest that know the defence, and cost."""
    records = list(records)
    # Not seconds, which would compare machines: a defence used at test time alone is put before a plain training.
    gradients = {r.experiment.training.defence.name: r.experiment.training.gradients for r in records}
    rows = [
        {
            "dataset": DATASETS[cell.dataset].title,
            "defence": cell.defense,
            "used in": PHASE_TITLES[cell.phase],
            "clean": number(cell.clean, cell.clean_record, interval=False),
            "the paper's attacks": number(cell.paper, cell.paper_record, interval=False),
            "attacks that know [95% interval]": number(cell.adaptive, cell.adaptive_record),
            "images": f"{cell.n_test:,}",
            "epochs": cell.epochs,
            "gradients an image": cell.epochs * (1 if cell.phase == "test" else gradients[cell.defense]),
        }
        for cell in worst_cases(records).itertuples()
    ]
    caption = (
        "Each network before an attacker: accuracy on clean test images, under the worst of the paper's FGSM, BIM and "
        "MIM (in case A if it is redrawn at test time, else in case B; on the same images if so measured), and under "
        "the strongest attack per image of those that know the defence and the label, with how many images met it. "
        "Training cost its epochs, and as many gradients for each training image as the last column says."
    )
    return Table(pd.DataFrame(rows), caption, "rivals")


def explained(table: int) -> Table:
    """A table's published numbers beyond the tolerance, and whether the other reading of a choice explains them."""
    readings = pd.concat([ablations(committed(profile)) for profile in COMMITTED])
    rows = []
    for cell in reasons(committed("published"), readings, table=table).itertuples():
        where = {"none": "no defence", "both": f"{cell.defense} in both phases", "": cell.defense}
        words = [
            DATASETS[cell.dataset].title,
            where.get(cell.phase, f"{cell.defense} in {PHASE_TITLES.get(cell.phase)}"),
        ]
        words += [attack_title(cell.attack), f"case {cell.case}"] if cell.attack else []
        row = {
            "cell": ", ".join(words),
            "paper": f"{cell.accuracy:.4f}",
            "ours": number(cell.ours, cell.record, interval=False),
            "other reading": "none measured",
        }
        if cell.id:
            row["other reading"] = f"**{cell.id}** `{cell.variant}`"
            row["changes ours by [95% interval]"] = signed(cell.effect)
            row["explains it?"] = _mark(cell.explains)
            row["measured"] = f"[{cell.effect_n_train:,} training images](record:{cell.effect_record}){{.badge}}"
        rows.append(row)
    caption = (
        "The published numbers that differ from the paper's by more than the tolerance, and what the other reading of "
        "a choice would change ({ref}`ablations`): *yes* if ours would then agree, *partly* if it would come nearer by "
        "more than chance. What was measured on fewer training images is a hint and no more."
    )
    return Table(pd.DataFrame(rows).fillna(""), caption, f"explained-{table}")


def effects(found: pd.DataFrame) -> Table:
    """A row for each other reading of a choice in ``prlib.verdict.ablations``: how much it changes, how often."""
    rows = []
    for (id_, topic, variant, base), group in found.groupby(["id", "topic", "variant", "base"], sort=False):
        beyond = sum(not d.low <= 0 <= d.high for d in group.difference)
        values = [d.value for d in group.difference]
        rows.append(
            {
                "choice": f"**{id_}** {topic}",
                "variant": f"`{variant}`",
                "instead of": f"`{base}`",
                "accuracies": len(group),
                "changed beyond chance": beyond,
                "from … to": f"{min(values):+.3f} … {max(values):+.3f}",
            }
        )
    return Table(pd.DataFrame(rows), "What the other reading of each choice changes.", "effects")


def ablated(found: pd.DataFrame, profile: str) -> Table:
    """The rows of ``prlib.verdict.ablations``, each accuracy linked to its record."""
    rows = [
        {
            "choice": f"**{row.id}** {row.topic}",
            "dataset": DATASETS[row.dataset].title,
            "epochs": f"{row.epochs:,}",
            "judged": " ".join(filter(None, [attack_title(row.attack), row.case, PHASE_TITLES.get(row.phase)])),
            "variant": f"`{row.variant}` {linked(row.ours, row.record, 3)}",
            "instead of": f"`{row.base}` {linked(row.default, row.default_record, 3)}",
            "difference [95% interval]": signed(row.difference),
        }
        for row in found.itertuples()
    ]
    return Table(pd.DataFrame(rows), f"Variants and what they change (profile `{profile}`).", f"ablations-{profile}")


def suspicions(records: Iterable[Record], chapter: str) -> Table:
    """What ``prlib.verdict.checks`` finds suspicious about the numbers, by finding."""
    found = checks(records)
    rows = [
        {"attack": attack_title(attack), "finding": finding, "records": len(group)}
        for (attack, finding), group in found.groupby(["attack", "finding"], sort=False)
    ]
    columns = ["attack", "finding", "records"]
    return Table(
        pd.DataFrame(rows, columns=columns), "What the checks beside the numbers have found.", f"checks-{chapter}"
    )


def verdicts(records: Iterable[Record], prefix: str, profile: str = "") -> Table:
    """The computed verdicts on the claims whose id starts with ``prefix``; ``profile`` is whose records these are, if
    not the run's."""
    rows = [
        {
            "claim": f"{v.claim['claim']} ({v.claim['place']})",
            "claim supported?": f"{_mark(v.supported)} {_evidence(v)}",
            **(
                {"numbers reproduced?": f"{_mark(v.reproduced)} {v.within} of {v.compared}"}
                if "cells" in v.claim
                else {}
            ),
        }
        for v in judge_claims(records, prefix)
    ]
    caption = f"Verdicts, computed from the records of {f'profile `{profile}`' if profile else 'this run'}."
    return Table(pd.DataFrame(rows), caption, f"verdicts-{prefix}{profile and '-' + profile}")


def scoreboard(runs: Mapping[str, Iterable[Record]], questions: Mapping[str, str]) -> Table:
    """How many claims of each question each run supports; ``questions`` gives their texts by the claims' prefix."""
    rows = []
    for prefix, question in questions.items():
        row = {"question": question}
        for run_, records in runs.items():
            found = [v.supported for v in judge_claims(records, prefix)]
            row[run_] = " ".join(f"{_mark(word)} {found.count(word)}" for word in WORDS if word in found)
        rows.append(row)
    return Table(pd.DataFrame(rows), "", "scoreboard")


def tell(records: Iterable[Record], text: str, **where: Mapping[str, Any]) -> Markdown:
    """Prose with numbers: each ``{name}`` in the text becomes the accuracy that ``where[name]`` selects.

    A selection gives values of columns of ``prlib.verdict.measured``; of several the last epoch's is told, and of these
    that of most images. Numbers are linked to their records. A sentence with a number that was not measured is left
    out, and so are sentences without numbers behind it: what they conclude has nothing to rest on.
    """
    cells = measured(records)
    told = {name: found for name, columns in where.items() if (found := _last(cells, columns))}
    kept, rests = [], True
    for sentence in re.split(r"(?<=\.) (?=[A-Z])", text):
        numbers = set(re.findall(r"{(\w+)}", sentence))
        rests = numbers <= set(told) if numbers else rests
        if rests:
            kept.append(sentence.format(**told))
    return Markdown(" ".join(kept))


def glance(records: Iterable[Record], columns: Mapping[str, Mapping[str, Any]], caption: str, name: str) -> Table:
    """A row a dataset: the accuracy that each column selects, as in ``tell``; a dash where it was not measured."""
    cells, rows = measured(records), []
    for dataset, data in DATASETS.items():
        found = {title: _last(cells, {**where, "dataset": dataset}) for title, where in columns.items()}
        if any(found.values()):
            rows.append({"dataset": data.title} | {title: text or "–" for title, text in found.items()})
    return Table(pd.DataFrame(rows), caption, name)


def other_epsilon(records: Iterable[Record], parameters: Parameters) -> None:
    """Show the accuracies at an ε of the reader's, if one was asked for; the paper has none to put beside them."""
    cells = measured(records)
    cells = cells[cells.attack.str.contains("@") & (cells.case != "adaptive")]
    if len(cells):
        display(
            accuracies(cells, parameters, f"Accuracy under attacks at ε = {parameters.epsilon:g}.", "other-epsilon")
        )


def variants(
    records: Iterable[Record], variant: str, trained_with: Sequence[str], parameters: Parameters
) -> tuple[pd.DataFrame, Parameters]:
    """The run's cells at the epochs at which it measured a variant of a defence, else those of profile ``tenth``.

    Returns them with the parameters of the run that they are from.
    """
    cells, whose = measured(records), parameters
    if not (cells.defense == variant).any():
        cells, whose = measured(committed("tenth", trained_with)), Parameters("tenth")
    return cells[cells.epochs.isin(cells[cells.defense == variant].epochs)], whose


def answer(records: Iterable[Record], prefix: str) -> Markdown:
    """The claims whose id starts with ``prefix`` and what the records say to each, for a chapter's beginning.

    What they cannot say, the long trainings on a tenth of the images do.
    """
    records = list(records)
    datasets = {record.experiment.training.dataset for record in records}
    asked = any("@" in a.name for r in records for a in r.experiment.attacks)  # for an ε that is not the paper's
    longer = [] if asked else [r for r in committed("tenth") if r.experiment.training.dataset in datasets]
    lines = []
    for v, long in zip(judge_claims(records, prefix), judge_claims(longer, prefix), strict=True):
        told, where = (v, "") if v.supported != "not testable" else (long, " on a tenth of the images")
        evidence = f" {_evidence(told)}{where}" if _evidence(told) else ""
        lines.append(f"- {v.claim['claim']} {_mark(told.supported)}{evidence}")
    return Markdown("**Answer**, computed from our own measurements (how is said at the end):\n\n" + "\n".join(lines))


def summary(records: Iterable[Record]) -> Markdown:
    """How many claims are supported, and how many numbers reproduced, in a sentence."""
    found = judge_claims(records, "q")
    counts = ", ".join(f"{_mark(word)} {sum(v.supported == word for v in found)}" for word in WORDS)
    cells = compare(records, table=[2, 5, 6, 7]).query("case != 'normal'").drop_duplicates(COLUMNS)
    agrees = [bool(a) for a in cells.agrees if a is not None]
    return Markdown(
        f"Of the paper's {len(found)} claims, supported: {counts}. Of the {len(paper.tables())} numbers in its "
        f"tables {len(cells)} are left if each is counted once. This run measures {len(agrees)} of these, and "
        f"{sum(agrees)} agree with the paper's."
    )


def provenance(records: Iterable[Record], chapter: str) -> Table:
    """Where a chapter's numbers come from: a row a record."""
    rows = [
        {
            "record": f"[`{r.experiment.name}`](record:{r.experiment.name})",
            "commit": f"`{(r.provenance['commit'] or 'none')[:10]}`" + (" (modified)" if r.provenance["dirty"] else ""),
            "machine": r.provenance["machine"]["device"],
            "training, s": f"{r.provenance['seconds']['training']:.0f}",
            "finished": r.provenance["finished"][:10],
            "test data": f"`{r.provenance['digests']['test'][:10]}`",
        }
        for r in records
    ]
    columns = ["record", "commit", "machine", "training, s", "finished", "test data"]
    return Table(pd.DataFrame(rows, columns=columns), "The records behind this chapter.", f"records-{chapter}")


def costs(records: Iterable[Record]) -> Table:
    """What each experiment took: seconds of its training and of all, images a second, memory, machine."""
    rows = []
    for r in records:
        training, seconds = r.experiment.training, r.provenance["seconds"]
        trained = training.n_train * max(r.experiment.epochs)
        flops = 3 * _flops_per_image(DATASETS[training.dataset].channels, DATASETS[training.dataset].size)
        rows.append(
            {
                "record": f"[`{r.experiment.name}`](record:{r.experiment.name})",
                "training, s": f"{seconds['training']:,.0f}",
                "images/s": f"{trained / max(seconds['training'], 0.1):,.0f}",
                "GFLOP/s": f"{trained * flops / max(seconds['training'], 0.1) / 1e9:.0f}",
                "this record, s": f"{seconds['total']:,.0f}",
                "peak MB": f"{r.provenance['peak_megabytes']:,}" if "peak_megabytes" in r.provenance else "",
                "machine": f"{r.provenance['machine']['device']}, {r.provenance['machine']['cores']} cores",
            }
        )
    caption = (
        "What each record cost, on one thread beside others; experiments of one training share its seconds. A training "
        "that was interrupted counts all of its parts, the record only the last. Peak memory is the process's so far. "
        "GFLOP/s counts the layers' multiplications and additions as Table 1 has them, three passes a training step."
    )
    return Table(pd.DataFrame(rows), caption, "costs")


def benchmark(name: str, file: str = BENCHMARKS.name) -> Markdown:
    """One of the tables that ``make bench`` wrote, for each number of threads; says so if it was not run."""
    path = BENCHMARKS.with_name(file)
    measured = json.loads(path.read_text()) if path.exists() else {"tables": []}
    texts = []
    for table in (t for t in measured["tables"] if t["name"] == name):
        rows = pd.DataFrame([{k: significant(v) for k, v in row.items()} for row in table["rows"]]).fillna("")
        machine = measured["machine"]
        caption = f"{table['title']} Threads: {table['threads']}. {machine['device']}, {machine['cores']} cores. "
        caption += f"Commit `{table['commit']}`."
        texts.append(Table(rows, caption, f"benchmark-{name}-{table['threads']}")._repr_markdown_())
    return Markdown("\n\n".join(texts) or f"*The benchmark `{name}` has not been run here; `make bench` runs it.*")


def datasets_table() -> Table:
    """The datasets with their counts and licences, and what the embedded sample holds of them."""
    rows = [
        {
            "dataset": data.title,
            "images": f"{data.size}×{data.size}×{data.channels}",
            "training": f"{data.n_train:,}",
            "test": f"{data.n_test:,}",
            "sample": f"{len(load(name, 'train', 'sample')):,} + {len(load(name, 'test', 'sample')):,}",
            "licence": data.licence,
        }
        for name, data in DATASETS.items()
    ]
    caption = "The datasets of the paper (Section 3.1), and the training and test images in the embedded sample."
    return Table(pd.DataFrame(rows), caption, "datasets")


def network_table(channels: int, size: int) -> Table:
    """Table 1's network, layer by layer, for images channels×size×size: everything is computed from the model."""
    x, rows = torch.zeros(1, channels, size, size), []
    for layer in PaperCNN(channels, size):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            x = layer(x)
        rows.append([str(layer), _shape(x), sum(p.numel() for p in layer.parameters()), counter.get_total_flops()])
    rows.append(["**total**", "", sum(row[2] for row in rows), sum(row[3] for row in rows)])
    frame = pd.DataFrame(rows, columns=["layer", "output", "parameters", "MFLOP"])
    frame["parameters"] = [f"{n:,}" if n else "" for n in frame.parameters]
    frame["MFLOP"] = [f"{n / 1e6:.2f}" if n else "" for n in frame.MFLOP]
    frame["layer"] = [re.sub(r"^(\w+)", r"`\1`", name) for name in frame.layer]
    caption = f"Table 1 of the paper with sizes, for images of {size}×{size}×{channels}: one image, forward."
    return Table(frame, caption, f"network-{size}-{channels}")


def recipe_table() -> Table:
    """How the network is trained, for each dataset, as the default protocol says."""
    recipes = {data.title: vars(default_recipe(name)) for name, data in DATASETS.items()}
    frame = pd.DataFrame(recipes).map(lambda value: f"{value:.4g}" if isinstance(value, float) else value)
    frame.insert(0, "setting", [f"`{name}`" for name in frame.index])
    return Table(frame, "The training recipe of the default protocol (`prlib/profiles/protocol.yaml`).", "recipe")


def source(thing: Callable[..., Any]) -> Markdown:
    """The code of a function or class, as it stands in the library."""
    module = inspect.getmodule(thing)
    name = module.__name__.replace(".", "/") if module else ""
    return Markdown(f"From `{name}.py`:\n\n```python\n{textwrap.dedent(inspect.getsource(thing))}```")


def badge(parameters: Parameters, cell: Any, epochs: bool = True) -> str:
    """Profile, training/test images and epochs of a number, linked to its record: no reduced run passes for full."""
    changed = parameters.recompute or parameters.seeds or cell.record not in _names(parameters.profile)
    profile = "custom" if parameters.custom and changed else parameters.profile
    text = f"{profile} · {cell.n_train:,.0f}/{cell.n_test:,.0f} images"
    return f"[{text}{f' · {cell.epochs:,} epochs' if epochs else ''}](record:{cell.record}){{.badge}}"


def number(ours: Estimate | None, record: str, interval: bool = True) -> str:
    """An accuracy of ours, linked to its record's page, with its 95% interval; a dash if it was not measured."""
    if ours is None:
        return "–"
    return linked(ours, record) + (f" [{ours.low:.3f}, {ours.high:.3f}]" if interval else "")


def signed(difference: Estimate) -> str:
    """A difference of accuracies with its 95% interval."""
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference)


def rerun_command(chapter: str, parameters: Parameters) -> Markdown:
    """The exact command that runs this chapter again with the same parameters."""
    default, options = Parameters(), []
    for name, value in vars(parameters).items():
        if isinstance(value, tuple):
            options.append(f"-y '{name}: {list(value)}'")
        elif value != getattr(default, name) or name == "profile":
            options.append(f"-p {name} {value}")
    command = f".venv/bin/papermill book/{chapter}.ipynb _build/{chapter}.ipynb {' '.join(options)}"
    return Markdown(f"```bash\n{command}\n```")


def _wanted(parameters: Parameters, trained_with: Sequence[str] | None, adaptive: bool | None) -> list[Experiment]:
    experiments = parameters.experiments()
    return [
        e
        for e in experiments
        if (trained_with is None or e.training.defence.name in trained_with)
        and adaptive in (None, "adaptive" in e.cases)
        # What repeats another on fewer images is there to be compared with the attacks that know the defence.
        and (adaptive is None or not any(_repeats(e, other) for other in experiments))
    ]


def _repeats(e: Experiment, other: Experiment) -> bool:
    """Whether another experiment measures the same and more."""
    same = all(getattr(e, name) == getattr(other, name) for name in ("training", "tested_with", "epochs", "attacks"))
    return same and other != e and set(e.cases) <= set(other.cases) and e.n_test <= other.n_test


def _plain(text: str) -> str:
    """Markdown's links, marks and code without their markup."""
    return re.sub(r"\[([^\[\]]*)\](?:\([^)]*\)|\{[^}]*\})+|[`*]", r"\1", text)


def _flops_per_image(channels: int, size: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        torch.nn.Sequential.forward(PaperCNN(channels, size), torch.zeros(1, channels, size, size))
    return counter.get_total_flops()


def significant(value: Any) -> str:
    """Three digits of a fraction, whole thousands with commas, anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _shape(x: torch.Tensor) -> str:
    return "×".join(map(str, x.shape[1:]))


def recompute_command(experiment: Experiment) -> str:
    """The command that measures one experiment again; empty if no profile has it, whatever sizes it is given."""
    t = experiment.training
    sizes = {"seeds": (t.seed,), "epochs": experiment.epochs, "n_train": t.n_train, "n_test": experiment.n_test}
    chosen = {float(epsilon) for attack in experiment.attacks if (epsilon := attack.name.partition("@")[2])}
    if chosen and "adaptive" not in experiment.cases:  # whose own a profile gives
        (sizes["epsilon"],) = chosen
    for overrides in ({}, sizes):
        for profile in PROFILES:
            parameters = Parameters(profile=profile, datasets=(t.dataset,), **overrides)  # type: ignore[arg-type]
            if experiment in parameters.experiments():
                return _run_command(parameters, t.dataset, f"{experiment.name} ")
    return ""


def _run_command(parameters: Parameters, dataset: str, only: str = "") -> str:
    options = [f"{only}--profile {parameters.profile} --datasets {dataset}"]
    for name in OVERRIDES:
        value = getattr(parameters, name)
        if value is not None:
            text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            options.append(f"--{name.replace('_', '-')} {text}")
    return f"PRLIB_RESULTS=_build/again .venv/bin/python -m prlib run {' '.join(options)}"


def _last(cells: pd.DataFrame, where: Mapping[str, Any]) -> str:
    """The accuracy of the last epoch, and there of most images, linked to its record; empty if there is none."""
    found = cells[(cells[list(where)] == pd.Series(where)).all(axis=1)]
    found = found.sort_values(["epochs", "n_test", "of"], ascending=False, kind="stable")
    return linked(found.ours.iloc[0], found.record.iloc[0], 3) if len(found) else ""


@cache
def _names(profile: str) -> set[str]:
    return {experiment.name for experiment in Parameters(profile).experiments()}


def _is_parameter(name: str, value: Any) -> bool:
    literal = value is None or isinstance(value, bool | int | float | str | list | tuple | dict)
    return literal and not name.startswith("_") and name not in ("In", "Out")


def _is_numeric(column: pd.Series) -> bool:
    return bool(column.astype(str).map(_plain).str.fullmatch(r"[–−+\-]?[\d,.]*( [✓✗]| \[.*\])?").all())


def _attacked(cell: Any) -> dict[str, str]:
    return {"attack": attack_title(cell.attack), "case": cell.case}


def _difference(cell: Any) -> str:
    if cell.difference is None:
        return ""
    return f"{cell.difference.value:+.4f} {'✓' if cell.agrees else '✗'}".replace("-", "−")


def _mark(word: str) -> str:
    return f"[{word}]{{.verdict .{word.replace(' ', '-')}}}"


def _evidence(verdict: Verdict) -> str:
    counts = {"holds": verdict.holds, "fails": verdict.fails, "is open": verdict.open}
    text = ", ".join(f"{word} in {count}" for word, count in counts.items() if count)
    return f"{text} of {sum(counts.values())} comparisons" if text else ""
