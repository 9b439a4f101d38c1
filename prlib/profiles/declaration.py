"""Parameters declared once, as a dataclass: from its fields come their check, docstring, options and notebook cell."""

import argparse
from collections.abc import Sequence
from dataclasses import Field, field, fields
from numbers import Integral, Real
from typing import Any

_WORDS = {str: "name", int: "integer", float: "float", bool: "True or False"}
_METAVARS = {str: "NAME", int: "N", float: "X"}


def declared(default: Any, kind: type, text: str, allowed: Any = None, example: str = "") -> Any:
    """A field of a dataclass of parameters.

    Args:
        default: its default; None is allowed where it is the default.
        kind: str, int, float or bool; of each value, where an ``example`` shows a list.
        text: what it does.
        allowed: the names, the least integer, or the bounds of a float (above the first, up to the second).
        example: a list of values; without one the parameter is a single value.
    """
    return field(default=default, metadata={"kind": kind, "help": text, "allowed": allowed, "example": example})


def checked(parameter: Field[Any], given: Any) -> Any:
    """The value as a parameter holds it; lists become tuples without repetitions, integers in ascending order.

    Raises:
        ValueError: a value that is not allowed, in one sentence that names it.
    """
    name, example = parameter.name, parameter.metadata["example"]
    if given is None and parameter.default is None:
        return None
    if not example:
        return _value(parameter, given)
    if not isinstance(given, list | tuple | range | set | frozenset):
        raise ValueError(f"{name} must be a list, such as {example}; got {given!r}")
    if not given:
        raise ValueError(f"{name} must not be empty; leave it None for the profile's own")
    values = dict.fromkeys(_value(parameter, value) for value in given)
    return tuple(values if parameter.metadata["kind"] is str else sorted(values))


def _value(parameter: Field[Any], given: Any) -> Any:
    kind, allowed = parameter.metadata["kind"], parameter.metadata["allowed"]
    if kind is bool:
        return _require(isinstance(given, bool), parameter, "True or False", given)
    if kind is str:
        what = f"among {', '.join(allowed)}" if allowed else "a name"
        return _require(isinstance(given, str) and given in (allowed or [given]), parameter, what, given)
    number = isinstance(given, Integral if kind is int else Real) and not isinstance(given, bool)
    if kind is int:
        return int(_require(number and given >= allowed, parameter, f"made of integers from {allowed} up", given))
    low, high = allowed
    return float(_require(number and low < given <= high, parameter, f"a number above {low} and up to {high}", given))


def _require(holds: bool, parameter: Field[Any], what: str, given: Any) -> Any:
    if not holds:
        raise ValueError(f"{parameter.name} must be {what}; got {given!r}")
    return given


def described(parameters: type) -> str:
    """The part of a docstring on the fields."""
    lines = [f"        {parameter.name}: {parameter.metadata['help']}." for parameter in fields(parameters)]
    return "\n".join(["    Args:", *lines])


def table(defaults: Any) -> list[tuple[str, str, Any, str]]:
    """Name, type in words, default and meaning of each field."""
    rows = []
    for parameter in fields(defaults):
        word = _WORDS[parameter.metadata["kind"]]
        kind = f"list of {word}s" if parameter.metadata["example"] else word
        rows.append((parameter.name, kind, getattr(defaults, parameter.name), parameter.metadata["help"]))
    return rows


def cell(defaults: Any, names: Sequence[str] = ()) -> str:
    """The code of a notebook's cell of parameters: a commented line a field (of these names; all by default)."""
    lines = []
    for parameter in fields(defaults):
        if not names or parameter.name in names:
            value, example = getattr(defaults, parameter.name), parameter.metadata["example"]
            literal = f'"{value}"' if isinstance(value, str) else repr(value)
            such = f" (such as {example})" if example else ""
            lines.append(f"{parameter.name} = {literal}  # {parameter.metadata['help']}{such}")
    return "\n".join(lines)


def add_options(parser: argparse.ArgumentParser, parameters: type, *names: str) -> None:
    """Give a command the options of these fields: ``--n-train`` of ``n_train``."""
    for parameter in fields(parameters):
        if parameter.name in names:
            kind, default, text = parameter.metadata["kind"], parameter.default, parameter.metadata["help"]
            flag = f"--{parameter.name.replace('_', '-')}"
            if kind is bool:
                parser.add_argument(flag, action="store_true", help=text)
                continue
            parser.add_argument(
                flag,
                type=kind,
                default=default,
                nargs="+" if parameter.metadata["example"] else None,
                metavar=_METAVARS[kind],
                help=text if default is None else f"{text} (default: {default})",
            )
