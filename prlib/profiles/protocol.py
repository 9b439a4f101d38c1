"""The default protocol, read and checked: how networks are trained, and the options of defences and attacks."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from prlib.attacks.base import ALLOWED, check_parameters
from prlib.attacks.registry import KINDS
from prlib.data import DATASETS
from prlib.defences import ADVERSARIES, BUILDERS, check_options
from prlib.files import check_name
from prlib.schema import Checked, Line, Natural, Seed, Share, among, parsed, validated
from prlib.train import Autocast

Options = dict[str, Any]
Place = Annotated[str, among(("default", *DATASETS))]


@cache
def read_yaml(name: str) -> Any:
    """What a YAML file of this folder holds."""
    return parsed(Path(__file__).with_name(f"{name}.yaml"))


def _attack(options: Options) -> Options:
    """The options of an attack if its kind has them; the step size may be a share of ε."""
    others = dict(options)
    function, labels = others.pop("function", None), others.pop("labels", None)
    if function not in KINDS:
        raise ValueError(f"function must be among {', '.join(KINDS)}")
    if labels not in ("predicted", "true"):
        raise ValueError('labels must be "predicted" or "true"')
    if "step_share" in others:
        others["step_size"] = others.pop("step_share")
    for name in others:
        if name not in KINDS[function].defaults or name not in ALLOWED:
            raise ValueError(f"{name!r} is no option of {function}, which has {', '.join(KINDS[function].defaults)}")
    check_parameters(**others)
    return options


def _check_defence(name: str, by_dataset: dict[str, Options]) -> None:
    """Raise a ValueError unless what makes the defence has its options."""
    check_name("defence", name)
    if name.partition("-")[0] not in BUILDERS | ADVERSARIES:
        raise ValueError(f"{name}: must begin with {', '.join(BUILDERS | ADVERSARIES)}")
    for dataset, options in by_dataset.items():
        try:
            check_options(name.partition("-")[0], options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}.{dataset}: {error}") from error


class _Recipe(Checked):
    init: Literal["normal", "glorot"] = "normal"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0
    batch_size: Natural = 1
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    autocast: Autocast = "float32"


class _Attack(Checked):
    options: Annotated[Options, AfterValidator(_attack)]
    title: Line = "its kind's"
    more_of: Line = ""
    less_of: Line = ""
    baseline: bool = False


class _Protocol(Checked):
    recipe: dict[Place, _Recipe]
    recipes: dict[str, _Recipe]
    defences: dict[str, dict[Place, Options]]
    titles: dict[str, Line]
    drawn: Seed
    epsilon: dict[Place, Share]
    adaptive: dict[Literal["fixed", "random", "staircase", "differentiable fixed", "differentiable random"], list[str]]
    attacks: dict[str, _Attack]


def checked_protocol(protocol: Any) -> Any:
    """The protocol as it stands; a ValueError of one sentence names what is wrong in it."""
    found = validated(TypeAdapter(_Protocol), "protocol", protocol)
    for name, options in found.defences.items():
        try:
            _check_defence(name, options)
        except ValueError as error:
            raise ValueError(f"protocol.yaml, defences: {error}") from None
    for name, attack in found.attacks.items():
        check_name("attack", name)
        for other in filter(None, (attack.more_of, attack.less_of)):
            if other not in found.attacks:
                raise ValueError(f"protocol.yaml, attacks.{name}: there is no attack {other!r}")
    if unknown := {name for names in found.adaptive.values() for name in names} - found.attacks.keys():
        raise ValueError(f"protocol.yaml, adaptive: there is no attack {min(unknown)!r}")
    if unknown := {*found.recipes, *found.titles} - found.defences.keys():
        raise ValueError(f"protocol.yaml, recipes and titles: there is no defence {min(unknown)!r}")
    return protocol


@cache
def read_protocol() -> Any:
    """The default protocol; raises what ``checked_protocol`` does."""
    return checked_protocol(read_yaml("protocol"))
