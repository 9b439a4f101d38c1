"""What a cell or a sentence holds, for two readers: MyST Markdown for the site, plain text for a notebook and CSV."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Union

from markdown_it import MarkdownIt

from prlib.findings.pairs import OneTraining, right_before_and_after
from prlib.statistics import Estimate

Content = Union[str, "Span", "Styled", tuple["Content", ...]]
"""An author's Markdown, a span, styled content, or a sequence of these."""


@dataclass(frozen=True)
class Span:
    """A piece of text: as code, linked to a record's page, with the classes that style it.

    A link's text may hold marks of its own, which a reader of the text alone sees. ``literal`` text is a value, not an
    author's, and has none.
    """

    text: str
    record: str = ""
    classes: tuple[str, ...] = ()
    code: bool = False
    literal: bool = False

    def markdown(self) -> str:
        """The span as MyST Markdown."""
        text = fenced(self.text) if self.code else escaped(self.text) if self.literal else self.text
        link = f"(record:{self.record})" if self.record else ""
        classes = "{" + " ".join(f".{name}" for name in self.classes) + "}" if self.classes else ""
        return f"[{text}]{link}{classes}" if link or classes else text


@dataclass(frozen=True)
class Styled:
    """Content with the class that styles it."""

    content: Content
    name: str


@dataclass(frozen=True)
class Number:
    """An accuracy of ours, the trainings behind it, and on how many images it is (0: as the trainings' records say)."""

    estimate: Estimate
    trainings: tuple[OneTraining, ...]
    images: int = 0

    def content(self, digits: int = 4, interval: bool = False) -> Content:
        """The value linked to its record's page, with its 95% interval if asked for.

        Of several trainings it is the mean, with a link a seed; their range follows.
        """
        value = f"{self.estimate.value:.{digits}f}"
        bounds = f" {between(self.estimate, '.3f')}" if interval else ""
        if len(self.trainings) == 1:
            linked = Span(value, record=self.trainings[0].record)
            return (linked, bounds) if interval else linked
        least, most = (end(self.trainings, key=lambda one: one.accuracy) for end in (min, max))
        ends = [Span(f"{one.accuracy:.3f}", record=one.record) for one in (least, most)]
        return (value, self._seeds(), bounds, " (", ends[0], " to ", ends[1], ")")

    def percent(self, digits: int | None = None) -> Content:
        """The value in percent, linked to its record's page; of several trainings the mean, with a link a seed."""
        value = percent(self.estimate.value) if digits is None else f"{self.estimate.value:.{digits}%}"
        if len(self.trainings) == 1:
            return Span(value, record=self.trainings[0].record)
        return (value, self._seeds())

    def _seeds(self) -> Content:
        """The seeds, each linked to its training's record: small figures behind the number."""
        linked = tuple((", " if i else " ", Span(f"{t.seed}", record=t.record)) for i, t in enumerate(self.trainings))
        return Styled((" (seeds", linked, ")"), "seeds")


def between(estimate: Estimate, form: str) -> str:
    """An interval, its bounds written in a form such as ".3f"; no line breaks between them."""
    return f"[{estimate.low:{form}},\u00a0{estimate.high:{form}}]"


def percent(share: float) -> str:
    """A share in prose: with one decimal, and two below half a percent."""
    return f"{share:.2%}" if 0 < abs(share) < 0.005 else f"{share:.1%}"


def number(estimate: Estimate | None, trainings: tuple[OneTraining, ...]) -> Number | None:
    """An accuracy of ours with the trainings behind it; None if it was not measured."""
    return None if estimate is None else Number(estimate, trainings)


def kept(estimate: Estimate | None, trainings: tuple[OneTraining, ...]) -> Number | None:
    """The share right before and after an attack, with that of each training; None if it is not known."""
    if estimate is None:
        return None
    each = [(one, right_before_and_after((one,))) for one in trainings]
    return Number(estimate, tuple(one._replace(accuracy=share.value) for one, share in each if share))


def code(text: object) -> Span:
    """Text as code."""
    return Span(str(text), code=True)


def literal(text: object) -> Span:
    """A value of a file, shown as it is, whatever it says."""
    return Span(re.sub(r"\s+", " ", str(text)), literal=True)


def told(text: str) -> tuple[Span, ...]:
    """A sentence of a file in which `backticks` mark code, and nothing else marks anything."""
    return tuple(code(part) if i % 2 else Span(part, literal=True) for i, part in enumerate(text.split("`")))


def escaped(text: str) -> str:
    """Text such that Markdown shows it as it is, in a line or a table's cell."""
    return re.sub(r"([\\`*_{}\[\]<>|$~&!])", r"\\\1", re.sub(r"\s+", " ", text))


def fenced(text: str) -> str:
    """Text as Markdown's code, in a line or a table's cell."""
    line = re.sub(r"\s+", " ", text).replace("|", "\\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " * line.startswith(("`", " ")) or " " * line.endswith(("`", " "))
    return f"{fence}{space}{line}{space}{fence}"


def mark(word: str) -> Span:
    """A verdict's word, with the class that colours it."""
    return Span(word, classes=("verdict", word.replace(" ", "-")))


def markdown(content: Content) -> str:
    """Content as MyST Markdown."""
    if isinstance(content, tuple):
        return "".join(map(markdown, content))
    if isinstance(content, Styled):
        return f"[{markdown(content.content)}]{{.{content.name}}}"
    return content.markdown() if isinstance(content, Span) else content


def plain(content: Content) -> str:
    """Content as text without markup."""
    if isinstance(content, tuple):
        return "".join(map(plain, content))
    if isinstance(content, Styled):
        return plain(content.content)
    return content.text if isinstance(content, Span) else _text(content)


@cache
def _text(text: str) -> str:
    """An author's Markdown without its marks; names of MyST's roles stay."""
    (inline,) = _PARSER.parseInline(text)
    return "".join(token.content for token in inline.children or [])


_PARSER = MarkdownIt("zero").enable(["emphasis", "backticks", "link"])
