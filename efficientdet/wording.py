"""How numbers are said in a line of text."""


def counted(number: int, noun: str) -> str:
    """`1 image`, `2 images`, `2 classes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"


def duration(seconds: float) -> str:
    """`8 s`, `12 min`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
