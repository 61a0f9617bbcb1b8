"""Fonts and texts for class names of any script: no picture shows empty boxes for letters.

Pillow's own font has Latin letters, matplotlib's also Greek, Cyrillic and Arabic ones. For others a
font of the system is taken; where it has none, letters are written by their Unicode names:
BoHaengJa for 보행자.
"""

import functools
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from PIL import ImageFont

# Looked for in the folders where systems keep fonts; the first that has all letters is taken.
_FILES = (
    *(f"NotoSans{name}.{kind}" for name in ("CJK-Regular", "CJKkr-Regular", "KR-Regular")
      for kind in ("ttc", "otf", "ttf")),
    "NanumGothic.ttf", "malgun.ttf", "AppleSDGothicNeo.ttc", "UnDotum.ttf", "Arial Unicode.ttf",
    "msyh.ttc", "meiryo.ttc", "wqy-microhei.ttc", "DroidSansFallback.ttf", "FreeSans.ttf",
    "NotoSans-Regular.ttf", "DejaVuSans.ttf",
)  # fmt: skip
_NO_LETTER = "\U0010ffff"


def fitted(texts: Sequence[str], size: int) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """A font that has all letters of `texts`, and these; or the usual one, and spelt texts."""
    font, letters = ImageFont.load_default(size), _unusual("".join(texts))
    if _has(font, letters):
        return font, list(texts)
    if path := _file_with(letters):
        return ImageFont.truetype(path, size), list(texts)
    missing = {letter for letter in letters if not _has(font, letter)}
    return font, ["".join(_spelt(x) if x in missing else x for x in text) for text in texts]


def in_plot(text: str) -> str:
    """The text as matplotlib can draw it; a font of the system is made known to it if need be."""
    from matplotlib import font_manager, rcParams

    usual = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 10)
    missing = [letter for letter in _unusual(text) if not _has(usual, letter)]
    if not missing:
        return text
    if path := _file_with("".join(missing)):
        font_manager.fontManager.addfont(path)
        name = font_manager.FontProperties(fname=path).get_name()
        if name not in rcParams["font.family"]:
            rcParams["font.family"] = [*rcParams["font.family"], name]
        return text
    return "".join(_spelt(letter) if letter in missing else letter for letter in text)


def _unusual(text: str) -> str:
    return "".join(sorted({letter for letter in text if not letter.isascii()}))


@functools.cache
def _file_with(letters: str) -> str | None:
    """The first file of `_FILES` whose font has all of them."""
    for name in _FILES:
        try:
            font = ImageFont.truetype(name, 10)
        except OSError:
            continue
        if _has(font, letters):
            return str(Path(font.path))
    return None


def _has(font: ImageFont.FreeTypeFont, letters: str) -> bool:
    empty = bytes(font.getmask(_NO_LETTER))
    return all(bytes(font.getmask(letter)) != empty for letter in letters)


def _spelt(letter: str) -> str:
    """`e` of é; `Bo` of 보, HANGUL SYLLABLE BO; `4eba` of 人, CJK UNIFIED IDEOGRAPH-4EBA."""
    if plain := unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode():
        return plain
    words = unicodedata.name(letter, f"U{ord(letter):X}").replace("-", " ").split()
    return words[-1].capitalize()
