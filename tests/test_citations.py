"""The mathematics that code cites is there: sections, equations, theorems, links and the names of symbols."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "mathematics").glob("*.md"))
ROOMS = ("fluid", "thresholds", "verification", "fluidwait", "tests", "benchmarks", "examples", "notebooks", "docs")
KINDS = {".py", ".md", ".ipynb", ".toml", ".txt"}
NUMBER = r"\d+(?:\.\d+)*"
CITATION = re.compile(rf"mathematics,[\s#]+sections?[\s#]+({NUMBER}(?:,?[\s#]+(?:and[\s#]+|to[\s#]+)?{NUMBER})*)")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
FORMULA = re.compile(r"\$\$[^$]+\$\$|\$[^$]+\$")
EATEN = re.compile(r"\\[^A-Za-z\s]")  # escapes that Markdown takes out of a formula


def files() -> list[Path]:
    """Every text of the repository that may cite something."""
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.suffix in KINDS]
    hidden = ("_build", "__pycache__", ".ipynb_checkpoints")
    return sorted(path for path in [*found, *ROOT.glob("*.md")] if not any(part in hidden for part in path.parts))


def text_of(path: Path) -> str:
    """What a file says; of a notebook the sources of its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


def headings(text: str) -> set[str]:
    """The numbers of the sections of a page."""
    return set(re.findall(rf"^#+ ({NUMBER})\.? ", text, flags=re.MULTILINE))


def cited(text: str) -> set[str]:
    """The sections of the mathematics that a text cites."""
    return {number for each in CITATION.findall(text) for number in re.findall(NUMBER, each)}


def without_formulas(text: str) -> str:
    """The words of a page."""
    return FORMULA.sub(" ", text)


def symbols() -> list[str]:
    """The Python names in the table of symbols."""
    table = (ROOT / "docs" / "mathematics" / "README.md").read_text(encoding="utf-8").split("## Symbols")[1]
    rows = re.findall(r"^\|.*\|([^|]*)\|$", table.split("\n## ")[0], flags=re.MULTILINE)
    return sorted({name for last in rows for name in re.findall(r"`([^`]+)`", last)})


def found(name: str) -> bool:
    """Whether a dotted name, or "name(parameter)", is there: a module, an attribute, the field of a value."""
    dotted, _, parameter = name.rstrip(")").partition("(")
    parts, value = dotted.split("."), None
    for place, part in enumerate(parts):
        if hasattr(value, part):
            value = getattr(value, part)
            continue
        try:
            value = importlib.import_module(".".join(parts[: place + 1]))
        except ModuleNotFoundError:
            last, fields = place == len(parts) - 1, getattr(value, "__dataclass_fields__", {})
            return last and not parameter and part in fields
    return not parameter or (callable(value) and parameter in inspect.signature(value).parameters)


def test_every_cited_section_exists() -> None:
    """Who cites "mathematics, section n.m" cites a heading of docs/mathematics/; some hundred do."""
    there = set().union(*(headings(text_of(page)) for page in PAGES))
    missing = {str(path.relative_to(ROOT)): sorted(cited(text_of(path)) - there) for path in files()
               if path != Path(__file__) and cited(text_of(path)) - there}
    assert missing == {}
    assert sum(bool(cited(text_of(path))) for path in files()) > 40


def test_nobody_cites_what_is_not_in_the_repository() -> None:
    """No file names the working paper that the mathematics grew from."""
    paper = "model" + ".md"
    assert [str(path) for path in files() if paper in text_of(path)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_refers_to_what_exists(page: Path) -> None:
    """Equations, theorems and sections that a page refers to are in the mathematics, each equation once."""
    every = "\n".join(text_of(each) for each in PAGES)
    tags, text = re.findall(r"\\tag\{([\d.]+)\}", every), text_of(page)
    assert len(tags) == len(set(tags))
    assert set(re.findall(r"\((\d+\.\d+)\)", without_formulas(text))) <= set(tags)
    assert set(re.findall(r"Theorem (\d+\.\d+)", text)) <= set(re.findall(r"\*\*Theorem (\d+\.\d+)", every))
    assert set(re.findall(r"sections? (\d+(?:\.\d+)?)", without_formulas(text))) <= headings(every)
    for words, target in LINK.findall(text):
        for number in re.findall(NUMBER, words) if words.startswith("section") else []:
            assert number in headings(text_of(page.parent / target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_formulas_are_shown_alike_everywhere(page: Path) -> None:
    """No formula has an escape that Markdown eats, touches a word, is cut by a line, or numbered for another page."""
    text = text_of(page)
    assert [each.group() for each in FORMULA.finditer(text) if EATEN.search(each.group())] == []
    beside = [text[max(each.start() - 1, 0)] + text[each.end()] for each in FORMULA.finditer(text)]
    assert [each for each in beside if re.search(r"\w", each)] == []
    assert [line for line in text.splitlines() if line.count("$") % 2] == []
    tags = set(re.findall(r"\\tag\{(\d+)\.\d+\}", text))
    assert tags <= {re.match(r"0?(\d*)", page.stem)[1]}


@pytest.mark.parametrize("page", [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"],
                         ids=lambda page: page.name)
def test_relative_links_point_to_files(page: Path) -> None:
    """Every relative link of the documentation names a file or folder that exists."""
    targets = [target.partition("#")[0] for _, target in LINK.findall(text_of(page)) if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_name_code_and_files_that_exist(page: Path) -> None:
    """What a page names as code of a package, or as a file, is there; one without a folder stands beside the last."""
    named = re.findall(r"`([^`\n]+)`", text_of(page))
    code = [name for name in named if re.fullmatch(r"(fluid|thresholds|verification|fluidwait)(\.\w+)+", name)]
    assert [name for name in code if not found(name)] == []
    folder, missing = ROOT, []
    for path in [path for path in named if re.fullmatch(r"[\w./-]+(/|\.py|\.ipynb|\.md)", path)]:
        place = ROOT / path if "/" in path else folder / path
        folder = place.parent
        missing += [] if place.exists() else [path]
    assert missing == []


@pytest.mark.parametrize("name", symbols())
def test_symbols_have_their_python_names(name: str) -> None:
    """What the table of symbols calls the Python name of a symbol is there."""
    assert found(name)


def test_what_is_missing_is_noticed() -> None:
    """The checks above can fail: a section, a name, a field, a parameter that do not exist, a comma that is eaten."""
    assert cited("Source: mathematics, sections 3 and\n    4.2; mathematics,\n# section 99.") == {"3", "4.2", "99"}
    assert "99" not in set().union(*(headings(text_of(page)) for page in PAGES))
    assert found("fluid.PromptType.rate")
    assert found("thresholds.wait(slack)")
    names = ("fluid.nothing", "fluid.PromptType.nothing", "thresholds.wait(nothing)", "nothing.solve")
    assert not any(found(name) for name in names)
    assert EATEN.search(r"a\,b")
