"""Files of YAML checked by what they may say: a mistake is one sentence that names the file and the place."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

T = TypeVar("T")

Natural = Annotated[int, Field(ge=1)]
Some = Annotated[list[T], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Line = Annotated[str, Field(min_length=1, pattern=r"^[^\n]*$")]
"""A sentence, which can hold no directive of a page's."""


class Checked(BaseModel):
    """An entry of a file; what it may not say is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("seeds", "epochs", "epsilons", "epochs_attacked", check_fields=False)
    @classmethod
    def _ascending(cls, values: list[float]) -> list[float]:
        if values != sorted(set(values)):  # in another order they would make the same experiments under other names
            raise ValueError("must be in ascending order, each once")
        return values


class _Loader(yaml.SafeLoader):
    """Refuses a key that is said twice, and takes for integers what is decimal alone: not ``010`` or ``8:20``."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        said: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in said:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is said twice", problem_mark=key.start_mark)
            said.add(str(key.value))
        return node


_INTEGER = "tag:yaml.org,2002:int"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _INTEGER]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INTEGER, re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))


def parsed(path: Path) -> Any:
    """What a YAML file holds; a ValueError of one sentence names the file and the place if it is none, or empty."""
    try:
        if (found := yaml.load(path.read_text("utf-8"), _Loader)) is None:
            raise ValueError("it is empty")
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        why = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ValueError(f"{path.name}{where}: {why}") from None
    return found


def among(names: Collection[str]) -> AfterValidator:
    """That a value is one of these."""

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"must be among {', '.join(names)}")
        return value

    return AfterValidator(check)


def validated(check: TypeAdapter[T], name: str, value: Any) -> T:
    """What the file of this name holds, as the type has it; a ValueError of one sentence names what is wrong."""
    try:
        return check.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        what = str(first.get("ctx", {}).get("error", first["msg"][0].lower() + first["msg"][1:]))
        got = "" if first["type"] == "missing" else f"; got {first['input']!r}"
        raise ValueError(f"{name}.yaml, {'.'.join(map(str, first['loc']))}: {what}{got}") from None
