"""Names of any script are drawn, or spelt in letters that are: never as empty boxes."""

import warnings

import numpy as np
import pytest
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from PIL import ImageFont

from efficientdet.visualize import fonts
from efficientdet.visualize.drawing import draw_boxes, sheet
from efficientdet.visualize.legend import Key, add_legend

PICTURE = np.full((60, 200, 3), 90, np.uint8)


@pytest.fixture
def system_fonts(monkeypatch):
    """Makes these files all that the system has."""

    def have(*files):
        monkeypatch.setattr(fonts, "_FILES", files)
        fonts._file_with.cache_clear()

    yield have
    fonts._file_with.cache_clear()


def test_latin_letters_keep_their_font_and_need_no_file(system_fonts):
    system_fonts()
    font, texts = fonts.fitted(["Car 0.9", "Person_sitting"], 12)
    assert texts == ["Car 0.9", "Person_sitting"] and fonts.in_plot("Car") == "Car"
    assert font.getlength("Car") == ImageFont.load_default(12).getlength("Car")


def test_without_a_font_names_are_spelt(system_fonts):
    system_fonts("nowhere.ttf")
    _, texts = fonts.fitted(["보행자 0.91", "신호등", "Bus", "café", "人"], 12)
    assert texts == ["BoHaengJa 0.91", "SinHoDeung", "Bus", "cafe", "4eba"]
    assert fonts.in_plot("보행자, Жук") == "BoHaengJa, Жук"  # matplotlib's font has Cyrillic


def test_a_font_of_the_system_is_taken(system_fonts):
    path = font_manager.findfont("DejaVu Sans")  # stands for one with the letters
    system_fonts("nowhere.ttf", path)
    font, texts = fonts.fitted(["Жук", "Car"], 12)
    assert texts == ["Жук", "Car"] and font.getname()[0] == "DejaVu Sans"


def test_pictures_show_the_names_and_plots_warn_of_nothing(system_fonts):
    system_fonts()
    spelt = draw_boxes(PICTURE, [(20, 30, 60, 50)], ["BoHaengJa"])
    np.testing.assert_array_equal(draw_boxes(PICTURE, [(20, 30, 60, 50)], ["보행자"]), spelt)
    same = [sheet([PICTURE], 1, [name]) for name in ("BoHaengJa", "보행자")]
    np.testing.assert_array_equal(*same)
    same = [add_legend(PICTURE, [Key(name, (9, 9, 9))]) for name in ("BoHaengJa", "보행자")]
    np.testing.assert_array_equal(*same)
    with warnings.catch_warnings(), rc_context():
        warnings.simplefilter("error")
        figure = Figure()
        figure.subplots().set_title(fonts.in_plot("보행자"))
        figure.canvas.draw()
