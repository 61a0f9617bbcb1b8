"""One image, two images."""

import pytest

from efficientdet.wording import counted, duration, meant, refilled


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(1, "image", "1 image"), (0, "step", "0 steps"), (2, "class", "2 classes")],
)
def test_plurals(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3569, "59 min"), (3571, "1 h 0 min"),
        (12000, "3 h 20 min"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_prose_is_broken_anew_and_commands_stay_as_they_are() -> None:
    text = (
        "Counts sheep.\n\n  sheep --all \\\n      --count=3 --colour=white\n\n"
        "The default is\none of each.\n"
    )
    assert refilled(text, 20) == (
        "Counts sheep.\n\n  sheep --all \\\n      --count=3 --colour=white\n\n"
        "The default is one\nof each.\n"
    )
    assert refilled(text, 100).endswith("\n\nThe default is one of each.\n")


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("Pedestrain", "Pedestrian"), ("van", "Van"), ("Bus", ""), ("승용자", "승용차"),
        ("보헹자", "보행자"), ("승합차", ""),
    ],
)  # fmt: skip
def test_what_is_meant_of_any_script(name: str, choice: str) -> None:
    said = meant(name, ["Pedestrian", "Van", "승용차", "보행자"])
    assert said == (f"; is {choice} meant?" if choice else "")
