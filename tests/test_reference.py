"""The pages behind the chapters: the library's reference, the glossary, citation, changelog, digests."""

import ast
import inspect
import pkgutil
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import parsed
from pybtex.database import parse_file

import prlib
from prlib.originals import SHA256

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.stem for path in (ROOT / "book" / "api").glob("*.md"))
INTERNAL = {
    "__main__",
    "bundle",
    "cifar",
    "collector",
    "command_line",
    "download",
    "files",
    "sample",
    "tar",
    "winograd",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
ENTRIES = parse_file(ROOT / "references.bib").entries


def page(site: Path, name: str) -> BeautifulSoup:
    return parsed(site / "book" / f"{name}.html")


def public_names(module_name: str) -> set[str]:
    """Functions, classes with their methods and properties, and constants that a module defines."""
    module = import_module(module_name)
    tree = ast.parse(inspect.getsource(module))
    assigned = {name.id for node in tree.body for name in ast.walk(node) if isinstance(name, ast.Name)}
    names = {name for name in assigned & set(vars(module)) if name.isupper() and len(name) > 1}
    names -= {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    for name, value in vars(module).items():
        function = inspect.isfunction(inspect.unwrap(value))  # also a cached one
        if (inspect.isclass(value) or function) and value.__module__ == module.__name__:
            names.add(name)
            members = vars(value) if inspect.isclass(value) else {}
            kinds = (property, classmethod, staticmethod)
            names |= {f"{name}.{m}" for m, v in members.items() if inspect.isfunction(v) or isinstance(v, kinds)}
    return {f"{module_name}.{name}" for name in names if not any(part.startswith("_") for part in name.split("."))}


def with_its_modules(name: str) -> list[str]:
    """A module, or a package with all modules in it."""
    path = getattr(import_module(name), "__path__", [])
    return [name, *(module.name for module in pkgutil.walk_packages(path, f"{name}."))]


def test_no_two_references_are_cited_alike() -> None:
    cited = []
    for entry in ENTRIES.values():
        first, *others = (" ".join(person.last_names) for person in entry.persons["author"])
        cited.append((first, others[0] if len(others) == 1 else len(others) > 1, entry.fields["year"]))
    assert len(set(cited)) == len(cited)


def test_every_module_has_a_page() -> None:
    assert {module.name for module in pkgutil.iter_modules(prlib.__path__)} == {*MODULES, *INTERNAL}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_described(site: Path, module: str) -> None:
    soup = page(site, f"api/{module}")
    names = set().union(*map(public_names, with_its_modules(f"prlib.{module}")))
    assert names
    assert {name for name in names if soup.find("dt", id=name) is None} == set()


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_are_read_as_meant(site: Path, module: str) -> None:
    soup = page(site, f"api/{module}")
    fields = {tag.get_text().strip().rstrip(":") for tag in soup.select("dl.field-list > dt")}
    # A colon in the first line after a constant would make "Type" of what stands before it.
    assert fields <= {"Parameters", "Raises", "Return type", "Returns"}
    assert [tag.get_text() for tag in soup.select("dt.sig") if "~" in tag.get_text()] == []  # what Sphinx cannot parse
    assert str(ROOT) not in str(soup)


def test_the_glossary_has_every_term(site: Path) -> None:
    terms = re.findall(r"^(?![{`#( ])(\S.*)\n  \S", (ROOT / "book" / "glossary.md").read_text(), re.MULTILINE)
    shown = [tag for tag in page(site, "glossary").select("dl.glossary dt") if tag.get("id")]
    assert [tag.find(string=True) for tag in shown] == [term.replace("'", "’") for term in terms]
    assert len(set(terms)) == len(terms) > 40


def test_versions_agree() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    note = ENTRIES["pixelredrawnreproduced"].fields["note"]
    cited = re.match(r"Version (\d+\.\d+\.\d+)\. ", note)
    assert cited
    assert {prlib.__version__, newest[1], CITATION["version"], cited[1]} == {PROJECT["version"]}


def test_citation_file() -> None:
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()  # what CFF 1.2.0 requires
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION.get("doi") == ENTRIES["pixelredrawnreproduced"].fields.get("doi")
    (paper,) = CITATION["references"]
    for described, key in ((CITATION, "pixelredrawnreproduced"), (paper, "pixelredrawn2019")):
        assert described["title"] == ENTRIES[key].fields["title"]
        assert [author["name"] for author in described["authors"]] == [
            str(person).strip("{}") for person in ENTRIES[key].persons["author"]
        ]
    assert str(paper["year"]) == ENTRIES["pixelredrawn2019"].fields["year"]


def test_the_entries_to_copy_are_whole(site: Path) -> None:
    blocks = [block.get_text().strip() for block in page(site, "cite").select("pre")]
    for key, block in zip(("pixelredrawnreproduced", "pixelredrawn2019"), blocks, strict=False):
        assert block.startswith(f"@misc{{{key},")
        assert block.endswith("\n}")


def test_the_digests_are_the_librarys(site: Path) -> None:
    text = page(site, "data").get_text()
    assert [path for path, digest in SHA256.items() if f"{digest}  {path}" not in text] == []
