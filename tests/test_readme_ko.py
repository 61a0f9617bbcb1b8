"""README.ko.md says what README.md says: block by block the same commands, links, figures, code."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
KOREAN = (ROOT / "README.ko.md").read_text(encoding="utf-8")
_FENCE = re.compile(r"^(```.*?^```)$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`]*`")
_TARGET = re.compile(r"\]\(([^)\s]+)\)")
_MARK = re.compile(r"^(?:#+ |- |\||!\[)|\A\*+", re.MULTILINE)  # headings, items, rows, pictures
_COMMENT = re.compile(r"(?:^|[ \t]+)#.*$", re.MULTILINE)
_FIGURE = re.compile(
    r"([A-Za-z]*[0-9]+(?:[.,x][0-9]+)*(?:[A-Zx](?![A-Za-z]))?)"
    r"(?:\s?(%|[kMG]B|(?:ms|s|min|h|times)\b|밀리초|초|분|시간|배))?"
)
_UNITS = {"밀리초": "ms", "초": "s", "분": "min", "시간": "h", "배": "times"}
_OTHER_LANGUAGE = {"README.md": "the other", "README.ko.md": "the other"}


def _blocks(text: str) -> list[str]:
    """Paragraphs, tables, lists and headings; a fence with all its lines is one block."""
    parts = _FENCE.split(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL))
    blocks = []
    for part in parts:
        blocks += [part] if _FENCE.match(part) else re.split(r"\n{2,}", part.strip())
    return [block for block in blocks if block]


def _figures(text: str) -> list[tuple[str, str]]:
    """Each number, or name with a number in it, with its unit."""
    return sorted((figure, _UNITS.get(unit, unit)) for figure, unit in _FIGURE.findall(text))


def _of_words(text: str) -> dict[str, object]:
    """What a sentence keeps in any language, whatever the order of its words."""
    code = sorted(" ".join(span.split()) for span in _CODE.findall(text))
    targets = _TARGET.findall(_CODE.sub("", text))
    words = _TARGET.sub("]", _CODE.sub("", text))
    return {
        "code": code,
        "links": sorted(_OTHER_LANGUAGE.get(target, target) for target in targets),
        "figures": _figures(words),
    }


def _of_code(block: str) -> dict[str, object]:
    comments = _COMMENT.findall(block)
    figures = [_figures(comment) for comment in comments]
    return {"commands": _COMMENT.sub("#", block).splitlines(), "figures of comments": figures}


def _cells(block: str) -> list[list[dict[str, object]]]:
    rows = [re.split(r"(?<!\\)\|", line.strip()) for line in block.splitlines()]
    return [[_of_words(cell) for cell in row] for row in rows]


def _facts(block: str) -> dict[str, object]:
    if _FENCE.match(block):
        return _of_code(block)
    shape: dict[str, object] = {"shape": _MARK.findall(block)}
    return shape | ({"cells": _cells(block)} if block.startswith("|") else _of_words(block))


def _mark(english: str) -> str:
    """What stands at the end of README.ko.md; new line breaks alone do not change it."""
    digest = hashlib.sha256(" ".join(english.split()).encode()).hexdigest()[:16]
    return f"<!-- README.md {digest} -->"


def _differences(english: str, korean: str) -> Iterator[str]:
    ours, theirs = _blocks(english), _blocks(korean)
    for here, there in zip(ours, theirs, strict=False):
        facts, others = _facts(here), _facts(there)
        for name in facts | others:
            if facts.get(name) != others.get(name):
                start = here.partition("\n")[0]
                yield f"{start!r}, {name}: {facts.get(name)} in Korean {others.get(name)}"
    if len(ours) != len(theirs):
        yield f"{len(ours)} blocks in README.md, {len(theirs)} in README.ko.md"
    if _mark(english) not in korean:
        yield (
            "README.md changed: say the same in README.ko.md (see git log -p README.md), "
            f"and end it with {_mark(english)}"
        )


def test_both_say_the_same() -> None:
    assert list(_differences(ENGLISH, KOREAN)) == []


def test_each_leads_to_the_other_in_its_first_lines() -> None:
    assert "[한국어](README.ko.md)" in "".join(ENGLISH.splitlines()[:3])
    assert "[English](README.md)" in "".join(KOREAN.splitlines()[:3])


def test_every_block_is_translated_in_one_tone() -> None:
    for block in _blocks(KOREAN):
        assert re.search("[가-힣]", block), block
        assert not re.search(r"(?<!니)다\.(?!\w)", block), block  # -ㅂ니다, not -(한)다
        prose = "" if _FENCE.match(block) else _CODE.sub("", block)
        assert "~" not in prose  # 1~2, 3~4: GitHub strikes out what is between two tildes


ENGLISH_PAGE = """\
# Small
English · [한국어](README.ko.md)

A D0 of 17 MB takes 0.56 s for `a --batch=4`, 1.21 times [more](docs/memory.md),
or AP50 59.3 %.

```bash
# 3. Weights
run --max=50     # 2 CPU cores
```

| a | b |
|---|---|
| 8 images | `--split=chen` |

- one
- two
"""
KOREAN_PAGE = """\
# 작은 문서
[English](README.md) · 한국어

`a --batch=4`로 17 MB짜리 D0는 0.56초, [더 큰 것](docs/memory.md)은 1.21배 걸립니다.
AP50은 59.3%입니다.

```bash
# 3. 가중치
run --max=50     # 2코어 CPU
```

| 가 | 나 |
|---|---|
| 8장 | `--split=chen` |

- 하나
- 둘
"""


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("# Small", "## Small", "shape"),
        ("- two\n", "", "shape"),
        ("17 MB", "17 GB", "figures"),
        ("0.56 s ", "0.56 min ", "figures"),
        ("59.3 %", "59.4 %", "figures"),
        ("D0", "D0 and D7x", "figures"),
        ("`a --batch=4`", "`a --batch=5`", "code"),
        ("docs/memory.md", "docs/gpu.md", "links"),
        ("--max=50", "--max=60", "commands"),
        ("     # 2 CPU cores", "", "commands"),
        ("2 CPU", "3 CPU", "figures of comments"),
        ("=chen", "=random", "cells"),
        ("| b |", "| b | c |", "cells"),
        ("| 8 images | `--split=chen` |\n", "", "cells"),
        ("- one", "More.\n\n- one", "6 blocks in README.md, 5 in"),
        ("Small", "Little", "README.md changed"),
    ],
)
def test_a_change_of_the_english_page_alone_is_found(before: str, after: str, found: str) -> None:
    korean = KOREAN_PAGE + _mark(ENGLISH_PAGE)
    assert list(_differences(ENGLISH_PAGE, korean)) == []
    *facts, mark = _differences(ENGLISH_PAGE.replace(before, after, 1), korean)
    assert any(found in line for line in [*facts, mark])
    assert "README.md changed" in mark


def test_new_line_breaks_alone_are_no_change() -> None:
    broken = re.sub(r"(?<=[a-z0-9,%.]) (?=[a-zA-Z%`])", "\n", ENGLISH_PAGE.partition("```")[0])
    broken += "".join(ENGLISH_PAGE.partition("```")[1:])
    assert broken.count("\n") > ENGLISH_PAGE.count("\n") + 5
    assert list(_differences(broken, KOREAN_PAGE + _mark(ENGLISH_PAGE))) == []
