"""Where numbers come from and what they cost, the datasets, the network and the recipe."""

import inspect
import json
import textwrap
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from IPython.display import Markdown
from torch.utils.flop_counter import FlopCounterMode

from prlib.data import DATASETS, load
from prlib.experiment import Training
from prlib.model import PaperCNN
from prlib.pages.content import Content, Span, code, escaped, literal, markdown, told
from prlib.pages.tables import CODE, COUNT, Column, Table, formatted, frame
from prlib.profiles import default_recipe
from prlib.record import Record

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "measured.json"
"""What ``make bench`` wrote last.

:meta hide-value:
"""


def provenance(records: Iterable[Record], chapter: str) -> Table:
    """Where a chapter's numbers come from: a row a record."""
    rows = [
        {
            "record": Span(f"`{r.experiment.name}`", record=r.experiment.name),
            "commit": (code((r.provenance["commit"] or "none")[:10]), " (modified)" * bool(r.provenance["dirty"])),
            "machine": literal(r.device),
            "training, s": r.provenance["seconds"]["training"],
            "finished": literal(r.provenance["finished"][:10]),
            "test data": r.provenance["digests"][r.experiment.split][:10],
        }
        for r in records
    ]
    shown = frame(rows, ["record", "commit", "machine", "training, s", "finished", "test data"])
    columns = {"training, s": formatted(".0f"), "test data": CODE}
    fold = f"The {len(rows)} records behind this chapter"
    return Table(shown, "The records behind this chapter.", f"records-{chapter}", columns, fold=fold)


def core_hours(records: Iterable[Record]) -> Markdown:
    """What the records took in all, in a sentence: their trainings, and judging and attacking the networks.

    A record's seconds hold its training's if it is the first of the training and took longer: then its run trained. A
    first record without attacks that took less trained the last part of an interrupted training; the seconds that it
    judged for are not known, and few.
    """
    of: dict[Training, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.provenance["finished"]):
        of.setdefault(record.experiment.training, []).append(record)
    trained = judged = 0.0
    for first, *others in of.values():
        seconds = first.provenance["seconds"]
        trained += seconds["training"]
        beyond = seconds["total"] - seconds["training"]
        judged += beyond if beyond > 0 else seconds["total"] * bool(first.experiment.attacks)
        judged += sum(record.provenance["seconds"]["total"] for record in others)
    devices = sorted({first.device for first, *_ in of.values()})
    return Markdown(
        f"**Answer:** the numbers shown here took about {(trained + judged) / 3600:.0f} core-hours. Training the "
        f"{len(of)} networks took {trained / 3600:.0f} of them, judging and attacking these the rest, on "
        f"{escaped(' and '.join(devices))}."
    )


def costs(records: Iterable[Record]) -> Table:
    """What each experiment took: seconds of its training and of all, images a second, memory, machine."""
    rows = []
    for r in records:
        training, seconds = r.experiment.training, r.provenance["seconds"]
        trained = training.n_train * max(r.experiment.epochs)
        flops = 3 * _flops_per_image(DATASETS[training.dataset].channels, DATASETS[training.dataset].size)
        rows.append(
            {
                "record": Span(f"`{r.experiment.name}`", record=r.experiment.name),
                "training, s": seconds["training"],
                "images/s": trained / max(seconds["training"], 0.1),
                "GFLOP/s": trained * flops / max(seconds["training"], 0.1) / 1e9,
                "this record, s": seconds["total"],
                "peak MB": r.provenance.get("peak_megabytes"),
                "machine": literal(f"{r.device}, {r.provenance['machine']['cores']} cores"),
            }
        )
    caption = (
        "What each record cost, on one thread beside others; experiments of one training share its seconds. A training "
        "that was interrupted counts all of its parts, the record the last and the batches judged before it. Peak "
        "memory is the process's so far. GFLOP/s counts the layers' multiplications and additions as Table 1 has them, "
        "three passes a training step."
    )
    whole = dict.fromkeys(["training, s", "images/s", "this record, s"], formatted(",.0f"))
    return Table(frame(rows), caption, "costs", {**whole, "GFLOP/s": formatted(".0f"), "peak MB": COUNT})


def benchmark(name: str, file: str = BENCHMARKS.name) -> Markdown:
    """One of the tables that ``make bench`` wrote, for each number of threads; says so if it was not run."""
    path = BENCHMARKS.with_name(file)
    measured = json.loads(path.read_text("utf-8")) if path.exists() else {"tables": []}
    texts = []
    for table in (t for t in measured["tables"] if t["name"] == name):
        machine = measured["machine"]
        where = literal(f" Threads: {table['threads']}. {machine['device']}, {machine['cores']} cores. Commit ")
        caption = markdown((told(table["title"]), where, code(table["commit"]), "."))
        rows = [{escaped(name): _as_it_is(value) for name, value in row.items()} for row in table["rows"]]
        texts.append(Table(frame(rows), caption, f"benchmark-{name}-{int(table['threads'])}")._repr_markdown_())
    return Markdown("\n\n".join(texts) or f"*The benchmark `{name}` has not been run here; `make bench` runs it.*")


def datasets_table() -> Table:
    """The datasets with their counts and licences, and what the embedded sample holds of them."""
    rows = [
        {
            "dataset": data.title,
            "images": f"{data.size}×{data.size}×{data.channels}",
            "training": data.n_train,
            "test": data.n_test,
            "sample": f"{len(load(name, 'train', 'sample')):,} + {len(load(name, 'test', 'sample')):,}",
            "licence": data.licence,
        }
        for name, data in DATASETS.items()
    ]
    caption = "The datasets of the paper (Section 3.1), and the training and test images in the embedded sample."
    return Table(frame(rows), caption, "datasets", {"training": COUNT, "test": COUNT})


def network_table(channels: int, size: int) -> Table:
    """Table 1's network, layer by layer, for images channels×size×size: everything is computed from the model."""
    x, rows = torch.zeros(1, channels, size, size), []
    for layer in PaperCNN(channels, size):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            x = layer(x)
        n_parameters = sum(p.numel() for p in layer.parameters())
        rows.append([_layer(layer), _shape(x), n_parameters, counter.get_total_flops()])
    rows.append(["**total**", "", sum(row[2] for row in rows), sum(row[3] for row in rows)])
    shown = pd.DataFrame(rows, columns=["layer", "output", "parameters", "MFLOP"])
    millions = Column(lambda n: f"{n / 1e6:.2f}" if n else "", right=True)
    columns = {"parameters": Column(lambda n: f"{n:,}" if n else "", right=True), "MFLOP": millions}
    caption = f"Table 1 of the paper with sizes, for images of {size}×{size}×{channels}: one image, forward."
    return Table(shown, caption, f"network-{size}-{channels}", columns)


def recipe_table() -> Table:
    """How the network is trained, for each dataset, as the default protocol says."""
    recipes = {data.title: vars(default_recipe(name)) for name, data in DATASETS.items()}
    shown = pd.DataFrame(recipes, dtype=object)
    shown.insert(0, "setting", shown.index)
    setting = Column(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value))
    columns = {"setting": CODE, **dict.fromkeys(recipes, setting)}
    return Table(
        shown, "The training recipe of the default protocol (`prlib/profiles/protocol.yaml`).", "recipe", columns
    )


def source(thing: Callable[..., Any]) -> Markdown:
    """The code of a function or class, as it stands in the library."""
    module = inspect.getmodule(thing)
    name = module.__name__.replace(".", "/") if module else ""
    return Markdown(f"From `{name}.py`:\n\n```python\n{textwrap.dedent(inspect.getsource(thing))}```")


def _as_it_is(value: object) -> object:
    return literal(value) if isinstance(value, str) else value


@cache
def _flops_per_image(channels: int, size: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        PaperCNN(channels, size)(torch.zeros(1, channels, size, size))
    return counter.get_total_flops()


def _layer(layer: torch.nn.Module) -> Content:
    kind = type(layer).__name__
    return code(kind), str(layer).removeprefix(kind)


def _shape(x: torch.Tensor) -> str:
    return "×".join(map(str, x.shape[1:]))
