"""Every flag of every command with its default and meaning, as Markdown.

python -m efficientdet.commands.flags
python -m efficientdet.commands.flags --output=docs/flags.md
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet.automl_names import FLAGS
from efficientdet.commands import page
from efficientdet.config_files import PROJECT

# How each is typed; they run in this order.
COMMANDS = (
    "python create_kitti_tf_record.py",
    "python inspect_tfrecord.py",
    "python efficientdet/main.py",
    "python efficientdet/predict.py",
    "python efficientdet/export.py",
    "python -m efficientdet.commands.preview",
    "python -m efficientdet.commands.kitti_eval",
    "python -m efficientdet.commands.report",
    "python -m efficientdet.commands.memory",
    "python -m efficientdet.commands.gpu_check",
    "python -m efficientdet.commands.synthetic",
    "python -m efficientdet.commands.hparams",
    "python -m efficientdet.commands.flags",
)
_BAR = "\\|"  # within a cell
HEAD = """\
# Commands and their flags

Made from the commands by `python -m efficientdet.commands.flags --output=docs/flags.md`. Flags are
written `--name=value`, those of type bool also `--name` and `--noname`. Each command prints its own
with `--help`. Hyper-parameters, which `--hparams` takes, stand in [hparams.md](hparams.md).
"""
_TABLE = "| flag | default | values | what it does |{}\n|---|---|---|---|{}"
_AUTOML = """\
## AutoML's other flags

`main.py` knows every flag of google/automl's `main.py` and `tf2/train.py`. These are not used here:
each is accepted with a line that says why it changes nothing, or refused with what to do instead. A
value of the last column is never refused.

| flag | what becomes of it | why | accepted |
|---|---|---|---|"""


def markdown() -> str:
    """The text of docs/flags.md."""
    with ThreadPoolExecutor(max_workers=2) as pool:  # each imports much
        helps = list(pool.map(_help, COMMANDS))
    parts = [HEAD]
    for command, text in zip(COMMANDS, helps, strict=True):
        parts += _section(command, ET.fromstring(text))
    parts += [_AUTOML, *_others(), "", *_download(), *_scripts()]
    return "\n".join(parts).rstrip() + "\n"


def _help(command: str) -> str:
    """What `command` says of itself, as XML."""
    words = command.split()[1:]
    if words[0] != "-m":
        words = [str(PROJECT / words[0])]
    done = subprocess.run(
        [sys.executable, *words, "--helpxml"],
        capture_output=True, encoding="utf-8", check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUTF8": "1"},
    )  # fmt: skip
    return done.stdout


def _section(command: str, told: ET.Element) -> Iterator[str]:
    usage = told.findtext("usage", "").strip()
    own = [flag for flag in told.iter("flag") if flag.findtext("key") == "yes"]
    is_main = command.endswith("main.py")
    yield f"## {command.split()[-1].removeprefix('efficientdet.commands.')}\n"
    yield f"`{command}`: {usage.partition(chr(10))[0]}\n"
    if not own:
        yield "It has no flags.\n"
        return
    yield _TABLE.format(*(" AutoML |", "---|") if is_main else ("", ""))
    for flag in own:
        cells = [f"`--{flag.findtext('name')}`", _default(flag), _values(flag), _meaning(flag)]
        cells += [_of_automl(flag.findtext("name", ""))] if is_main else []
        yield f"| {' | '.join(cell.replace('|', _BAR) for cell in cells)} |"
    yield ""


def _default(flag: ET.Element) -> str:
    text = (flag.findtext("default") or "").replace(f"{PROJECT}{os.sep}", "")
    return f"`{text}`" if text not in ("", "[]") else ""


def _values(flag: ET.Element) -> str:
    """Its type, and what is allowed."""
    choices = [one.text for one in flag.iter("enum_value") if one.text]
    if choices:
        return " | ".join(choices)
    kind = (flag.findtext("type") or "").removeprefix("multi ")
    kind = {"string": "text", "comma separated list of strings": "text,text"}.get(kind, kind)
    low, high = flag.findtext("lower_bound"), flag.findtext("upper_bound")
    if low and high:
        return f"{kind}, {low} to {high}"
    return f"{kind}, {low} or more" if low else kind


def _meaning(flag: ET.Element) -> str:
    """On one line, without the choices, which absl puts before it, and its words on lists."""
    text = " ".join((flag.findtext("meaning") or "").split())
    if flag.find("enum_value") is not None:
        text = text.partition(">: ")[2]
    for added in ("(a comma separated list)", "repeat this option to specify a list of values"):
        text = text.replace(added, "").strip(" ;")
    return text


def _of_automl(name: str) -> str:
    aliases = [other for other, rule in FLAGS.items() if rule.becomes == name and other != name]
    if name in FLAGS:
        return ", ".join(["yes", *(f"`--{alias}`" for alias in aliases)])
    return "ours"


def _others() -> Iterator[str]:
    for name, rule in FLAGS.items():
        if not rule.honoured:
            becomes = f"refused: {rule.instead}" if rule.instead else "changes nothing"
            off = ", ".join(f"`{value}`" for value in rule.off)
            cells = (f"`--{name}`", becomes, rule.why, off)
            yield f"| {' | '.join(cell.replace('|', _BAR) for cell in cells)} |"


def _download() -> Iterator[str]:
    from efficientdet.commands import download

    told = (download.__doc__ or "").strip()
    yield f"## download_checkpoint.sh\n\n```text\n{told}\n```\n"


def _scripts() -> Iterator[str]:
    """The head of each script: what it does, and its knobs."""
    yield "## Scripts\n\nKnobs are environment variables; flags after the name are passed on.\n"
    for path in sorted((PROJECT / "scripts").glob("*.sh")):
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
        text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:end])
        yield f"### {path.name}\n\n```text\n{text}\n```\n"


def main() -> None:
    """Prints the page, or writes it to `--output`."""
    page.deliver(markdown(), flags.FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "File to write; default: the terminal.")
    runner.run(main)
