"""Files of YAML checked by what they may say: a mistake is one sentence that names the file and the place."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

T = TypeVar("T")

Natural = Annotated[int, Field(ge=1)]
Some = Annotated[list[T], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0)]
Line = Annotated[str, Field(min_length=1, pattern=r"^[^\n]*$")]
"""A sentence, which can hold no directive of a page's."""


class Checked(BaseModel):
    """An entry of a file; what it may not say is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parsed(path: Path) -> Any:
    """What a YAML file holds."""
    return yaml.safe_load(path.read_text("utf-8"))


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
