"""What the paper leaves open: what was chosen, and what the other reading of each choice changes."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from IPython.display import Markdown

from prlib import paper
from prlib.cases import MORE_CASES
from prlib.data import DATASETS
from prlib.findings.cells import COLUMNS, ENOUGH, measured
from prlib.findings.choices import ablations, like_another_seed, reasons
from prlib.findings.pairs import of_common_seeds
from prlib.pages.content import Content, Number, Span, code, mark, number
from prlib.pages.names import PHASE_TITLES, attack_title, defence_title
from prlib.pages.prose import Prose
from prlib.pages.records import committed
from prlib.pages.tables import COUNT, SIGNED, Column, P, Table, accuracy, formatted, frame, with_minus
from prlib.profiles import COMMITTED, default_attack, default_defence
from prlib.profiles.named import NAMED
from prlib.statistics import ALPHA


def choices(group: str, caption: str) -> Table:
    """What the paper says, what its released code does and what ours does, for a group of the choices.

    Raises:
        ValueError: the protocol does not have a variant that an entry names.
    """
    rows = [
        {
            "choice": f"**{entry['id']}** {entry['topic']}",
            "the paper": entry["paper"],
            "its released code": entry["code"],
            "ours, and variants": " ".join([entry["ours"], _variants(entry), entry.get("other", "")]),
        }
        for entry in paper.deviations()
        if entry["group"] == group
    ]
    return Table(frame(rows), caption, f"choices-{group}")


def explained(table: int) -> Table | Markdown:
    """A table's published numbers that do not agree, and whether the other reading of a choice explains them.

    Clean accuracy that a table of attacks prints again (case "normal") counts in Table 2 alone. A sentence if there are
    none.
    """
    readings = pd.concat([ablations(measured(committed(profile))) for profile in COMMITTED])
    effect, rows = "changes ours by [95% interval]", []
    theirs = paper.tables()
    cases = set(theirs.case[theirs.table == table])
    cells = reasons(measured(committed("published")), readings, table=table, case=sorted(cases - {"normal"}))
    apart = " (clean accuracy, which is Table 2's, apart)" if "normal" in cases else ""
    for cell in cells.itertuples():
        row = {
            "cell": in_words(cell),
            "paper": cell.accuracy,
            "ours": number(cell.ours, cell.trainings),
            "other reading": (f"**{cell.id}** ", code(cell.variant)) if cell.id else "none measured",
        }
        if cell.id:
            row[effect] = cell.effect
            row["explains it?"] = mark(cell.explains)
            row["measured"] = Span(f"{cell.effect_n_train:,} training images", cell.effect_record, ("badge",))
        rows.append(row)
    if not rows:
        return Markdown(f"All of our numbers for the paper's Table {table}{apart} agree with the paper's.")
    caption = (
        f"The published numbers{apart} that do not agree with the paper's ({{term}}`tolerance`), and what the other "
        "reading of a choice would change ({ref}`ablations`): *yes* if ours would then agree, *partly* if it would "
        "come nearer by more than chance. *Not explained* stands where another training was needed, of which there is "
        "one seed, or fewer training images: then the difference may be the training's own."
    )
    columns = {"paper": formatted(".4f"), "ours": accuracy(), effect: SIGNED}
    differing = len(cells.drop_duplicates(COLUMNS))
    fold = "One number differs, and why it may" if differing == 1 else f"{differing} numbers differ, and why they may"
    return Table(frame(rows), caption, f"explained-{table}", columns, fold=fold)


def effects(found: pd.DataFrame) -> Table:
    """A row for each other reading of a choice in ``prlib.findings.choices.ablations``: its effect.

    "like another seed" is as ``prlib.findings.choices.like_another_seed`` counts.
    """
    rows = []
    for (id_, topic, variant, base), group in found.groupby(["id", "topic", "variant", "base"], sort=False):
        values = [d.value for d in group.difference]
        within, of = like_another_seed(group)
        rows.append(
            {
                "choice": f"**{id_}** {topic}",
                "variant": variant,
                "instead of": base,
                "accuracies": len(group),
                "changed beyond chance": int((group.p <= ALPHA).sum()),
                "from … to": (min(values), max(values)),
                "like another seed": f"{within} of {of}" if of else "",
            }
        )
    between = Column(lambda ends: with_minus("{:+.3f}\u00a0… {:+.3f}".format(*ends)))
    columns = {"variant": Column(code), "instead of": Column(code), "from … to": between}
    caption = (
        "What each variant changes. *Like another seed*: how many of its accuracies, those of each of its trainings by "
        f"themselves, lie where one more training of the base would with 95% probability, if the base was trained at "
        f"least {ENOUGH} times. Accuracies of one training go together."
    )
    return Table(frame(rows), caption, "effects", columns)


def largest_effects(table: Table) -> Prose:
    """Which choices of ``effects`` change an accuracy by more than ten percentage points, the largest change first."""
    largest: dict[str, float] = {}
    for row in table.frame.to_dict("records"):
        largest[row["choice"]] = max(*row["from … to"], largest.get(row["choice"], 0.0), key=abs)
    large = sorted((name for name, value in largest.items() if abs(value) > 0.1), key=lambda name: -abs(largest[name]))
    told = "; ".join(f"{name}, by up to {with_minus(f'{100 * largest[name]:+.0f}')}" for name in large)
    text = f"Some do. {len(large)} of {len(largest)} change an accuracy by more than ten percentage points: {told}."
    return Prose(text if large else "")


def ablated(found: pd.DataFrame, profile: str) -> Table:
    """The rows of ``prlib.findings.choices.ablations``, each accuracy linked to its record."""
    rows = [
        {
            "choice": f"**{row.id}** {row.topic}",
            "dataset": DATASETS[row.dataset].title,
            "epochs": row.epochs,
            "judged": " ".join(filter(None, [attack_title(row.attack), row.case, PHASE_TITLES.get(row.phase)])),
            "variant": (row.variant, number(row.ours, ours)),
            "instead of": (row.base, number(row.default, default)),
            "difference [95% interval]": row.difference,
            "p": row.p,
        }
        for row in found.itertuples()
        for ours, default in [of_common_seeds(row.trainings, row.default_trainings)]
    ]
    reading = Column(_reading)
    columns = {"epochs": COUNT, "variant": reading, "instead of": reading, "difference [95% interval]": SIGNED, "p": P}
    caption = f"Variants and what they change (profile `{profile}`); p is adjusted for all rows of a variant."
    return Table(frame(rows), caption, f"ablations-{profile}", columns)


def _variants(entry: Mapping[str, Any]) -> str:
    """The names of an entry's variants, after checking that the protocol has them."""
    names = list(entry.get("variants", []))
    for name in names:
        if name not in MORE_CASES:
            (default_attack if name in NAMED else default_defence)(name, "mnist")
    return f"**Variants:** {', '.join(f'`{name}`' for name in names)}." if names else ""


def in_words(cell: Any) -> str:
    """One of the paper's cells in words."""
    phase = PHASE_TITLES[cell.phase] if cell.phase not in ("", "none") else ""
    words = [DATASETS[cell.dataset].title, " ".join(filter(None, [defence_title(cell.defence), phase]))]
    words += [attack_title(cell.attack), f"case {cell.case}"] if cell.attack else []
    return ", ".join(words)


def _reading(value: tuple[str, Number]) -> Content:
    """A reading's name and the accuracy under it."""
    name, accuracy_ = value
    return code(name), " ", accuracy_.content(3)
