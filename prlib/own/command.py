"""``python -m prlib attack FILE``: a defence of one's own, attacked and put beside the book's."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prlib.attacks.known import Known
from prlib.data import DATASETS, Split, load
from prlib.estimate import duration
from prlib.experiment import Attack, to_json
from prlib.files import atomically, check_writable
from prlib.own.book import BookRow, book_rows, records_of, shared_images, strongest_cells
from prlib.own.file import Own, blamed, known, network_of, read, surrogate_of
from prlib.own.measure import Row, estimate, measure, suite
from prlib.own.options import check
from prlib.pages.names import PHASE_TITLES, attack_title, defence_title
from prlib.profiles import default_attack, results_folder
from prlib.provenance import provenance_of
from prlib.statistics import Estimate


def attack(options: argparse.Namespace) -> int:
    """Run the command; mistakes raise a ValueError or an OSError of one sentence before anything is computed."""
    started = time.monotonic()
    check(options)
    own, dataset = read(Path(options.file).expanduser()), options.dataset
    papers = dict(default_attack("fgsm", dataset).options)["epsilon"]
    epsilon = None if options.epsilon == papers else options.epsilon  # which records leave unsaid
    cells = strongest_cells(records_of(dataset), epsilon or 0.0)
    split, places = shared_images(dataset, cells, options.images, options.embedded, options.data)
    knowledge = known(own, split)
    attacks = suite(knowledge, dataset, epsilon, options.attacks)
    surrogate = surrogate_of(attacks, dataset)
    out = Path(options.out or results_folder() / "own" / f"{own.path.stem}-{dataset}.json").expanduser()
    check_writable(out)

    def training() -> Split:
        everything = load(dataset, "train", "sample" if options.embedded else options.data)
        return everything.take(min(options.n_train, len(everything)), 0)

    print(f"{own.path.name} on {DATASETS[dataset].title}: {knowledge.described}", flush=True)
    with blamed(own):
        network, what = network_of(own, dataset, training, options.epochs, out.parent / "weights", options.progress)
        seconds = estimate(network, knowledge, split, attacks)
    many = f"{len(split)} test images, {len(attacks)} attacks, ε = {_epsilon(attacks):g}"
    print(f"the network: {what}\n{many}: about {duration(seconds)} on one core", flush=True)
    with blamed(own):
        rows = measure(network, knowledge, split, attacks, surrogate, options.seed, options.progress)
    compared = book_rows(cells, places, rows[-1].right)
    _write(out, own, split, places, knowledge, what, attacks, rows, compared, time.monotonic() - started)
    print(table(rows, compared, len(attacks)))
    print(f"written to {out}")
    return 0


def table(rows: Sequence[Row], compared: Sequence[BookRow], of: int) -> str:
    """What is shown at the end: one's own accuracies, and the book's beside the strongest."""
    lines = ["", f"{'attack':60s} accuracy [95% interval]"]
    titles = {"": "no attack", "strongest": f"the strongest of {of} for each image"}
    lines += [f"{titles.get(row.attack) or attack_title(row.attack):60s} {_shown(row.accuracy)}" for row in rows]
    lines += ["", "The book's, under the strongest of its attacks, on the same images:"]
    lines.append(f"{'defence':31s} {'used':18s} attacks images accuracy  yours minus it [95% interval]")
    for one in compared:
        named = f"{defence_title(one.defence):31s} {PHASE_TITLES[one.phase]:18s} {one.of:7d} {one.n:6d}"
        lines.append(f"{named} {one.theirs:8.3f}  {_shown(one.difference, '+.3f')}")
    return "\n".join(lines if compared else [*lines[:-3], "", "The book has no such record of this dataset and ε yet."])


def _epsilon(attacks: Sequence[Attack]) -> float:
    return next(dict(a.options)["epsilon"] for a in attacks)


def _shown(e: Estimate, form: str = ".3f") -> str:
    return f"{e.value:{form}} [{e.low:{form}}, {e.high:{form}}]"


def _write(
    out: Path,
    own: Own,
    split: Split,
    places: np.ndarray,
    knowledge: Known,
    what: str,
    attacks: Sequence[Attack],
    rows: Sequence[Row],
    compared: Sequence[BookRow],
    seconds: float,
) -> None:
    """Write the result as JSON: what was attacked, by what, how often each image was right, beside what."""
    digests = {"test": split.digest}
    result = {
        "file": {"name": own.path.name, "sha256": own.digest},
        "dataset": split.name,
        "places": places.tolist(),
        "defence": knowledge.described,
        "network": what,
        "attacks": [to_json(one) for one in attacks],
        "right": {row.attack or "none": row.right.round(4).tolist() for row in rows},
        "accuracy": {row.attack or "none": row.accuracy._asdict() for row in rows},
        "book": [{**one._asdict(), "difference": one.difference._asdict()} for one in compared],
        "provenance": provenance_of("cpu", False, {"training": 0.0, "total": round(seconds, 1)}, digests),
    }
    with atomically(out) as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
