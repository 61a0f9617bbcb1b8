"""The documents lead somewhere: links, anchors, files, commands and flags that they name exist."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "README.ko.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PROSE = [page for page in PAGES if page.name not in ("flags.md", "hparams.md")]
_FENCE = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[(?:[^]\[]|\[[^]]*\])*\]\(([^)\s]+)\)")
_PROGRAM = re.compile(r"python3? (?:-m )?(\S+)")


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _links(page: Path) -> list[str]:
    return _LINK.findall(_FENCE.sub("", _text(page)))


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", _FENCE.sub("", _text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def _blocks(page: Path) -> list[str]:
    return [block for kind, block in _FENCE.findall(_text(page)) if kind == "bash"]


def _commands(page: Path) -> Iterator[list[str]]:
    """The words of each command line in a page's blocks, without the variables before it."""
    for block in _blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words:
                yield words


def _flags_of(command: str) -> set[str]:
    """Those that docs/flags.md, which is made from the code, lists; `--noname` of a bool, too."""
    name = command.rpartition("/")[2].removeprefix("efficientdet.commands.")
    sections = re.split(r"^## ", _text(ROOT / "docs/flags.md"), flags=re.MULTILINE)
    (section,) = [one for one in sections if one.partition("\n")[0].rpartition("/")[2] == name]
    bools = re.findall(r"^\| `--(\w+)` \| [^|]* \| bool \|", section, re.MULTILINE)
    return {*re.findall(r"^\| `--(\w+)`", section, re.MULTILINE), *(f"no{x}" for x in bools)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _links(page):
        if link.startswith(("https:", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.resolve().is_relative_to(ROOT), f"{page.name}: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{page.name}: {link}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    found, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page.suffix == ".md" and page not in found:
            found.add(page)
            names = (link.partition("#")[0] for link in _links(page) if "://" not in link)
            left += [(page.parent / name).resolve() for name in names if name]
    assert [page.name for page in PAGES if page not in found] == []


def test_the_readme_is_short_and_its_picture_small() -> None:
    assert len(_text(ROOT / "README.md").splitlines()) < 120
    pictures = list((ROOT / "docs").glob("*.png"))
    assert pictures and all(picture.stat().st_size < 150_000 for picture in pictures)


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_every_block_is_sound_bash_and_names_what_there_is(page: Path) -> None:
    for block in _blocks(page):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert not done.returncode, f"{page.name}: {done.stderr}"
    for words in _commands(page):
        if words[0] == "bash":
            assert (ROOT / words[1]).is_file(), f"{page.name}: {words[1]}"
        program = _PROGRAM.match(" ".join(words))
        if not program or program[1] in ("pytest", "venv", "pip"):
            continue
        name = program[1]
        source = name if name.endswith(".py") else name.replace(".", "/") + ".py"
        if (ROOT / name / "__main__.py").is_file():
            source = f"{name}/__main__.py"
        assert (ROOT / source).is_file(), f"{page.name}: {source}"
        given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
        if source.startswith("benchmarks/"):
            known = set(re.findall(r'"(\w+)"', _text(ROOT / source)))
        else:
            known = _flags_of(name)
        assert given <= known | {"help"}, f"{page.name}: {given - known} of {name}"


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_every_named_file_is_there(page: Path) -> None:
    folders = "configs|scripts|benchmarks|tests|docs"
    for name in re.findall(rf"(?<![\w/.])(?:{folders})/[\w/.-]*\.\w+", _text(page)):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_named_hyper_parameters_and_flags_are_known() -> None:
    """`--flag` or `name=value` in a page's prose is one of main.py's or of another command's."""
    flags = set(re.findall(r"`--(\w+)`", _text(ROOT / "docs/flags.md")))
    flags |= {f"no{name}" for name in flags}  # of a bool
    flags |= {"help", "helpfull", "set", "sha256", "upgrade"}
    flags |= set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', _text(ROOT / "benchmarks/recipes.py")))
    flags |= set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', _text(ROOT / "benchmarks/__main__.py")))
    for page in PROSE:
        for name in re.findall(r"`--(\w+)(?:=[^`]*)?`", _text(page)):
            assert name in flags, f"{page.name}: --{name}"
