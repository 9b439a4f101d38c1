"""Where numbers come from and what they cost, the datasets, the network and the recipe."""

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from IPython.display import Markdown
from torch.utils.flop_counter import FlopCounterMode

from prlib.data import DATASETS, load
from prlib.model import PaperCNN
from prlib.pages.tables import Table, significant
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
            "record": f"[`{r.experiment.name}`](record:{r.experiment.name})",
            "commit": f"`{(r.provenance['commit'] or 'none')[:10]}`" + (" (modified)" if r.provenance["dirty"] else ""),
            "machine": r.device,
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
                "machine": f"{r.device}, {r.provenance['machine']['cores']} cores",
            }
        )
    caption = (
        "What each record cost, on one thread beside others; experiments of one training share its seconds. A training "
        "that was interrupted counts all of its parts, the record only the last. Peak memory is the process's so far. "
        "GFLOP/s counts the layers' multiplications and additions as Table 1 has them, three passes a training step."
    )
    return Table(pd.DataFrame(rows), caption, "costs")


def benchmark(name: str) -> Markdown:
    """One of the tables that ``make bench`` wrote, for each number of threads; says so if it was not run."""
    measured = json.loads(BENCHMARKS.read_text()) if BENCHMARKS.exists() else {"tables": []}
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


def _flops_per_image(channels: int, size: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        PaperCNN(channels, size)(torch.zeros(1, channels, size, size))
    return counter.get_total_flops()


def _shape(x: torch.Tensor) -> str:
    return "×".join(map(str, x.shape[1:]))
