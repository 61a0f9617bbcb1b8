"""The table of `benchmarks.exports`, as the README has it."""


def markdown(rows: list[dict]) -> str:
    """A line for each model and input size, a column for each format; as the README has it."""
    kinds = list(dict.fromkeys(row["format"] for row in rows))
    lines = [["model, input", *kinds], ["---", *["---:"] * len(kinds)]]
    for model, size in dict.fromkeys((row["model"], row["input"]) for row in rows):
        of_one = {
            row["format"]: row for row in rows if (row["model"], row["input"]) == (model, size)
        }
        name = model.removeprefix("efficientdet-")
        lines.append([f"{name}, {size}", *(_cell(of_one[kind]) for kind in kinds)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: dict) -> str:
    size = "" if row["mb"] is None else f" ({row['mb']:.1f})"
    return f"{row['ms']:.0f}{size}"
