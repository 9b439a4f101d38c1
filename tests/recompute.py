"""Verdicts and numbers again, from the records' JSON and the stated rules alone: nothing of prlib is used here.

Rules are those of the chapter "The verdict", the head of ``prlib/paper/claims.yaml`` and the docstring of ``tell``.
"""

import itertools
import json
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from scipy.stats import binomtest, norm, t

ROOT = Path(__file__).parents[1]
LABELS = json.loads((ROOT / "prlib" / "sample" / "test-labels.json").read_text())
CLAIMS = yaml.safe_load((ROOT / "prlib" / "paper" / "claims.yaml").read_text())
PAPER = pd.read_csv(ROOT / "prlib" / "paper" / "tables.csv", keep_default_na=False)
NORMS = ("l0", "l2", "linf")
TOLERANCE = {True: 0.05, False: 0.02}  # under attack, clean
FULL = {"mnist": 60_000, "fashion-mnist": 60_000, "cifar10": 50_000, "cifar10-gray": 50_000}
REDRAWN = {"A", "C", "A twice", "C twice", "adaptive", "certified"}  # the cases in which the defence redraws
COLUMNS = ("dataset", "defence", "epochs", "phase", "attack", "epsilon", "case")


def places(dataset, n, drawn=None):
    """The test images, by place, that a record of n images was judged on: as many of each class, the first that fit.

    With ``drawn`` they are the first in the order that this seed shuffles all into.
    """
    labels = LABELS[dataset.removesuffix("-gray")]
    if n == len(labels):
        return list(range(n))
    order = range(len(labels))
    if drawn is not None:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(drawn)).tolist()
    room, found = Counter({label: n // 10 for label in "0123456789"}), []
    for place in order:
        if room[labels[place]]:
            room[labels[place]] -= 1
            found.append(place)
    assert n % 10 == 0 and len(found) == n
    return found


def bits(cell, draws):
    """Whether each image is right, or how often of the draws."""
    if draws > 1:
        width = 1 if draws < 256 else 2  # of two bytes the lower is first
        content = bytes.fromhex(cell["often"])
        return [int.from_bytes(content[i : i + width], "little") / draws for i in range(0, len(content), width)]
    return [int(bit) for byte in bytes.fromhex(cell["success"]) for bit in f"{byte:08b}"][: cell["total"]]


def called(trained, tested):
    """A network's name: "majority-pr-5" is made of "pr", and before a network that was trained with it names both."""
    made_of_it = tested.split("-")[1:][: len(trained.split("-"))] == trained.split("-")
    return tested if trained == "none" or made_of_it else trained


def rows(names, profile):
    """A row a cell of the records of these names: what it is called, and by seed the bit of each image by its place."""
    found, clean = [], {}
    for name in names:
        record = json.loads((ROOT / "results" / profile / "records" / f"{name}.json").read_text())
        e, training = record["experiment"], record["experiment"]["training"]
        if e.get("split", "test") != "test":
            continue
        assert "embedded" not in e and training["source"] == "full"
        judged_on = places(training["dataset"], e["n_test"], e.get("drawn"))
        for cell in record["cells"]:
            judged = dict(zip(judged_on, bits(cell, e.get("draws", 1)), strict=True))
            trained, tested = training["defence"]["name"], cell["tested_with"]
            attack, _, epsilon = cell["attack"].partition("@")
            attacked = cell["case"] != "normal"
            protected = not trained.startswith("none"), tested != "none"
            phase = {(0, 0): "none", (1, 0): "train", (0, 1): "test", (1, 1): "both"}[protected]
            network = json.dumps(training, sort_keys=True), cell["epoch"]
            if not attacked and len(judged) > len(clean.get((*network, tested), ())):
                clean[*network, tested] = judged
            what = {
                "dataset": training["dataset"],
                "defence": called(trained, tested),
                "epochs": cell["epoch"],
                "phase": "" if attacked and cell["case"] not in ("adaptive", "certified") else phase,
                "attack": attack,
                "epsilon": float(epsilon or 0),
                "case": cell["case"] if attacked else "",
                "n_train": training["n_train"],
                "n_test": e["n_test"],
                "drawn": e.get("drawn") or 0,
                "of": len(e["attacks"]) if attack == "strongest" else 0,
            }
            before = (*network, tested if cell["case"] in REDRAWN else "none") if attacked else None
            seed = training["seed"]
            each = {"norms": [[cell[which] for which in NORMS]], "bits": {seed: judged}, "before": {seed: before}}
            found.append(what | {"record": name} | each)
    pooled = {}
    for row in found:
        row["before"] = {seed: clean.get(key) for seed, key in row["before"].items()}
        one = pooled.setdefault(tuple(row[name] for name in (*COLUMNS, "n_train", "n_test", "drawn", "of")), row)
        if one is not row:  # another seed; of a cell that two records of one training hold the first is taken
            for name in ("bits", "before"):
                one[name] |= {seed: value for seed, value in row[name].items() if seed not in one[name]}
            one["norms"] += row["norms"]
    return [row | dict(zip(NORMS, np.mean(row["norms"], axis=0).tolist(), strict=True)) for row in pooled.values()]


def matches(row, where):
    where = {"epsilon": 0.0} | where
    return all(row[name] in (value if isinstance(value, list | tuple) else [value]) for name, value in where.items())


def preference(row):
    """Of several rows that of most images goes first; of as many those drawn at random, and then of most attacks."""
    return -row["n_test"], -row["drawn"], -row["of"]


def right(row, kept):
    """By seed, the images that a row tells of by place, and whether each is right; with ``kept`` before, too."""
    if not kept:
        return row["bits"]
    return {
        seed: {place: bit * row["before"][seed][place] for place, bit in found.items() if place in row["before"][seed]}
        for seed, found in row["bits"].items()
        if row["before"][seed]
    }


def sums(terms):
    """What each common image adds to a sum of (sign, row, kept): an array seeds × images."""
    values = [(sign, right(row, kept)) for sign, row, kept in terms]
    seeds = sorted(set.intersection(*(set(found) for _, found in values)))
    if len({row["dataset"].removesuffix("-gray") for _, row, _ in terms}) > 1 or not seeds:
        return np.zeros((0, 0), int)
    images = sorted(set.intersection(*(set(found[seed]) for _, found in values for seed in seeds)))
    return np.array([[sum(s * found[seed][place] for s, found in values) for place in images] for seed in seeds])


def interval(values):
    """The middle of Agresti and Min's interval, which has half an observation more in each cell of the table of pairs,
    and a function that gives half its width for a share left out; of several seeds with Student's t over them."""
    mean, seeds = values.mean(0), len(values)
    n = len(mean) + 2
    centre = mean.sum() / n
    error = math.sqrt(((mean**2).sum() + 1) / n - centre**2) / math.sqrt(n)
    spread = values.mean(1).std(ddof=1) / math.sqrt(seeds) if seeds > 1 else 0.0
    return centre, lambda p: math.hypot(norm.isf(p / 2) * error, t.isf(p / 2, seeds - 1) * spread if spread else 0.0)


def p_value(values, bound=0.0):
    if bound or len(values) > 1 or values.dtype.kind == "f":
        centre, half = interval(values)
        low, high = 1e-300, 1.0  # the share that the interval leaves out where it ends at the bound
        for _ in range(80):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if half(middle) > abs(centre - bound) else (low, middle)
        return low
    (values,) = values.tolist()
    sizes = Counter(map(abs, values))
    if not sizes[2]:  # McNemar's test
        better, worse = values.count(1), values.count(-1)
        return binomtest(better, better + worse).pvalue if better + worse else 1.0
    odds = np.array([1.0])  # of all sums that the images could have had, were each sign a coin's
    for size, count in ((1, sizes[1]), (2, sizes[2])):
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = [math.exp(_log_binomial(count, k) - count * math.log(2)) for k in range(count + 1)]
        odds = np.convolve(odds, steps)
    middle = len(odds) // 2
    return float(odds[np.abs(np.arange(len(odds)) - middle) >= abs(sum(values))].sum())


def _log_binomial(n, k):
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def holm(ps):
    order, adjusted, so_far = np.argsort(ps, kind="stable"), [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        so_far = max(so_far, min(1.0, ps[i] * (len(ps) - rank)))
        adjusted[i] = so_far
    return adjusted


def word(outcomes):
    kinds = set(outcomes)
    if {"holds", "fails"} <= kinds:
        return "mixed"
    for name, said in (("holds", ("yes", "partly")), ("fails", ("no", "partly not"))):
        if name in kinds:
            return said["open" in kinds]
    return "open" if kinds else "not testable"


def related(relation, values, tolerance):
    """Whether a relation holds by the mean, and the bound next to it."""
    mean = values.mean()
    if relation == "same":
        return abs(mean) <= tolerance, math.copysign(tolerance, mean)
    sign, least = {"above": (1, 0.0), "below": (-1, 0.0), "clearly above": (1, tolerance)}[relation]
    return sign * mean > least, sign * least


def called_as_the_paper(row, theirs):
    """Whether one of our rows is the paper's cell: it prints undefended networks under PR's name."""
    normal = theirs["case"] == "normal"
    name = "none" if theirs["phase"] == "none" else theirs["defence"]
    phase = "both" if normal else theirs["phase"]
    attack, case = ("", "") if normal else (theirs["attack"], theirs["case"])
    wanted = {"dataset": theirs["dataset"], "defence": name, "epochs": theirs["epochs"], "phase": phase}
    return matches(row, wanted | {"attack": attack, "case": case})


def papers_cells(where):
    frame = PAPER
    for name, value in where.items():
        frame = frame[frame[name].isin(value if isinstance(value, list) else [value])]
    return frame.to_dict("records")


def agreement(found, where):
    """Of the paper's cells that we have measured as the paper did, which agree."""
    return [agrees for agrees, _, _ in agreements(found, where)]


def agreements(found, where):
    """Of each of these cells whether it agrees, whether it would by the tolerance alone, and how many trainings."""
    agree = []
    for theirs in papers_cells(where):
        ours = [r for r in found if called_as_the_paper(r, theirs)]
        row = max(ours, key=lambda r: (len(r["bits"]) > 2, r["n_test"]), default=None)
        if row and row["n_train"] == FULL[row["dataset"]]:
            shares = [sum(found.values()) / row["n_test"] for found in row["bits"].values()]
            value = float(np.mean(shares))
            low, high = wilson(value, row["n_test"])
            reach = TOLERANCE[theirs["case"] in ("A", "B", "C")] + (high - low) / 2
            below, above = reach, reach
            tolerated = abs(theirs["accuracy"] - value) <= reach + 1e-9
            if len(shares) > 2:  # then by what one more training may show on all test images
                other = t.isf(0.025, len(shares) - 1) * np.std(shares, ddof=1) * math.sqrt(1 + 1 / len(shares))
                part = math.sqrt(1 - row["n_test"] / 10_000)
                below, above = math.hypot(part * (value - low), other), math.hypot(part * (high - value), other)
            agrees = value - below - 1e-9 <= theirs["accuracy"] <= value + above + 1e-9
            agree.append((agrees, tolerated, len(shares)))
    return agree


def wilson(share, n):
    """Wilson's interval, which ends at 0 or 1 where the share does."""
    z = norm.isf(0.025)
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((centre + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def judged(claim, found):
    """A claim's comparisons: where, mean, interval, p, adjusted p, how many images, outcome; and its agreement."""
    agree, candidates = [], []
    if "cells" in claim:
        if claim.get("quantity") != "l2":
            agree = agreement(found, claim["cells"])
        for theirs in papers_cells(claim["cells"]):
            for row in found:
                if called_as_the_paper(row, theirs):
                    candidates.append(row | {name: theirs[name] for name in COLUMNS if name != "epsilon"})
        if "none" in (claim["left"].get("defence"), claim["right"].get("defence")):
            candidates += [row for row in found if matches(row, {"defence": "none"})]
    else:
        candidates = [row for row in found if matches(row, claim["ours"])]
    ends = {"first": 50, "last": 1000}
    sides = []
    for side, sign in (("left", 1), ("right", -1)):
        where = {name: ends.get(value, value) for name, value in claim[side].items()}
        when = [(sign, {"epochs": 1000}), (-sign, {"epochs": 50})] if claim.get("change") else [(sign, {})]
        sides += [(s, where | more) for s, more in when]
    fixed = {*claim["left"], *claim["right"], *(["epochs"] if claim.get("change") else [])}
    groups = defaultdict(list)
    for row in candidates:
        groups[tuple(row[name] for name in COLUMNS if name not in fixed)].append(row)
    kept, comparisons = claim.get("quantity") == "kept", []
    for group in groups.values():
        group.sort(key=preference)
        options = [[row for row in group if matches(row, where)] for _, where in sides]
        best, chosen = np.zeros((0, 0)), None
        for some in itertools.product(*options):
            values = sums([(sign, row, kept) for (sign, _), row in zip(sides, some, strict=True)])
            if values.size > best.size:
                best, chosen = values, some
        if chosen:
            one = {"where": chosen[0], "images": best.shape[1]}
            if claim.get("quantity") == "l2":
                gap = chosen[0]["l2"] - chosen[1]["l2"]
                outcome = "holds" if (gap > 0) == (claim["relation"] == "above") else "fails"
                comparisons.append(one | {"p": None, "outcome": outcome})
            else:
                holds, bound = related(claim["relation"], best, TOLERANCE[bool(chosen[0]["attack"])])
                outcome, (centre, half) = ("holds" if holds else "fails"), interval(best)
                one |= {"mean": best.mean(), "low": centre - half(0.05), "high": centre + half(0.05)}
                comparisons.append(one | {"p": p_value(best, bound), "outcome": outcome})
    if comparisons and comparisons[0]["p"] is not None:
        ps = [one["p"] for one in comparisons]
        alike = len({one["outcome"] for one in comparisons}) == 1 and max(ps) <= 0.05
        for one, p in zip(comparisons, holm(ps), strict=True):
            one["adjusted"] = p
            one["outcome"] = one["outcome"] if alike or p <= 0.05 else "open"
    return comparisons, agree


def of_seeds(row, seeds):
    """The row with the trainings of these seeds alone."""
    return row | {name: {seed: row[name][seed] for seed in seeds} for name in ("bits", "before")}


def told(where, found):
    """Of each name (row, kept, places, share): the last epoch's on most images.

    Those of a dataset are on the same images and of the same seeds.
    """
    options, groups = {}, defaultdict(list)
    for name, columns in where.items():
        kept = bool(columns.get("kept"))
        chosen = [row for row in found if matches(row, {k: v for k, v in columns.items() if k != "kept"})]
        last = max((row["epochs"] for row in chosen), default=0)
        chosen = sorted((row for row in chosen if row["epochs"] == last), key=preference)
        options[name] = [(row, kept) for row in chosen if right(row, kept)]
        if options[name]:
            groups[options[name][0][0]["dataset"].removesuffix("-gray")].append(name)
    numbers = {}
    for names in groups.values():
        seeds = set.intersection(*(set(right(*options[n][0])) for n in names))
        for n in names:
            options[n] = [(of_seeds(row, seeds), kept) for row, kept in options[n] if seeds <= set(right(row, kept))]
        met = {
            n: [set.intersection(*(set(found) for found in right(*one).values())) for one in options[n]] for n in names
        }
        around_all = [
            images
            for some in met.values()
            for images in some
            if all(any(images <= other for other in others) for others in met.values())
        ]
        if not around_all:
            continue
        common = max(around_all, key=len)
        for name in names:
            holding = [(o, images) for o, images in zip(options[name], met[name], strict=True) if common <= images]
            row, kept = max(holding, key=lambda found: (found[0][0]["of"], found[1] == common))[0]
            shares = [sum(found[place] for place in common) / len(common) for found in right(row, kept).values()]
            numbers[name] = row, kept, common, float(np.mean(shares))
    return numbers


def guard_holds(guard, numbers):
    """Whether the sum of a guard's terms is what it says, at 5%."""
    terms, relation, bound = guard
    if len(terms) == 1:
        row, kept, common, share = numbers[terms[0][1]]
        low, high = wilson(share, len(common))
        shares = [sum(found[place] for place in common) / len(common) for found in right(row, kept).values()]
        if len(shares) > 1:
            spread = t.isf(0.025, len(shares) - 1) * np.std(shares, ddof=1) / math.sqrt(len(shares))
            low, high = share - math.hypot(share - low, spread), share + math.hypot(high - share, spread)
        return low > bound if relation == "above" else high < bound
    values = sums([(sign, *numbers[name][:2]) for sign, name in terms])
    if relation == "level":
        return p_value(values) > 0.05
    holds, edge = related("same" if relation == "same" else "clearly above", values, bound)
    return holds and p_value(values, edge) <= 0.05


def percent(share):
    return f"{share:.2%}" if 0 < share < 0.005 else f"{share:.1%}"
