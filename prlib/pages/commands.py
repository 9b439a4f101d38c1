"""The commands that pages show."""

from functools import cache

from IPython.display import Markdown

from prlib.experiment import Experiment
from prlib.profiles import OVERRIDES, PROFILES, Parameters


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


def recompute_command(experiment: Experiment) -> str:
    """The command that measures one experiment again; empty if no profile has it, whatever sizes it is given."""
    t = experiment.training
    sizes = {"seeds": (t.seed,), "epochs": experiment.epochs, "n_train": t.n_train, "n_test": experiment.n_test}
    chosen = {attack.epsilon for attack in experiment.attacks if attack.epsilon}
    own = "adaptive" in experiment.cases  # whose ε a profile gives
    asked = {"epsilon": chosen.pop()} if chosen and not own else {}
    for overrides in ({}, asked, sizes | asked):
        for profile in PROFILES:
            parameters = Parameters(profile=profile, datasets=(t.dataset,), **overrides)
            if experiment in _experiments(parameters):
                return run_command(parameters, t.dataset, f"{experiment.name} ")
    return ""


@cache
def _experiments(parameters: Parameters) -> frozenset[Experiment]:
    return frozenset(parameters.experiments())


def run_command(parameters: Parameters, dataset: str, only: str = "") -> str:
    """The command that measures a dataset's experiments, or only those whose name starts so, into another folder."""
    options = [f"{only}--profile {parameters.profile} --datasets {dataset}"]
    for name in OVERRIDES:
        value = getattr(parameters, name)
        if value is not None:
            text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            options.append(f"--{name.replace('_', '-')} {text}")
    return f"PRLIB_RESULTS=_build/again .venv/bin/python -m prlib run {' '.join(options)}"
