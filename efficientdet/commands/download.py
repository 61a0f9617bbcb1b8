"""Fetches a checkpoint that google/automl published, and unpacks it.

    bash scripts/download_checkpoint.sh efficientdet-d2 [FOLDER] [--set=SET]

leaves FOLDER/efficientdet-d2/ (FOLDER: the current one), to be used as
--ckpt=efficientdet-d2. Without --set these are the newest weights; another set
lands in FOLDER/efficientdet-d2-SET/:

    coco2     D0 to D7, D7x: the newest
    coco      the same models, older; and lite0 to lite4, lite3x
    advprop   D0 to D5 with Det-AdvProp, whose runs scale images to -1 .. 1
    coco640   D2 to D6 at 640x640
    imagenet  efficientnet-b0 to b7, for --backbone_ckpt

An interrupted download goes on where it stopped; nothing incomplete is ever
unpacked. Its SHA-256 is printed; with --sha256=HEX (or SHA256=HEX) nothing else
is unpacked. CHECKPOINT_URL sets another base address.
"""

import argparse
import os
import shutil
from pathlib import Path

from efficientdet.checkpoint.archive import ArchiveError
from efficientdet.checkpoint.archive import unpack as unpack_archive
from efficientdet.commands import ending, fetch
from efficientdet.errors import UsageError, UserError
from efficientdet.run.lock import writing_alone

BASE = "https://storage.googleapis.com/cloud-tpu-checkpoints"
_D = [f"efficientdet-d{size}" for size in ["0", "1", "2", "3", "4", "5", "6", "7", "7x"]]
_LITE = [f"efficientdet-lite{size}" for size in ["0", "1", "2", "3", "3x", "4"]]
_PUBLISHED = (  # set, path, models; the first row that has a model is its newest
    ("coco2", "efficientdet/coco2/{}.tar.gz", _D),
    ("coco", "efficientdet/coco/{}.tar.gz", _D),
    ("coco", "efficientdet/coco/{}.tgz", _LITE),
    ("advprop", "efficientdet/advprop/{}.tar.gz", _D[:6]),
    ("coco640", "efficientdet/coco640/{}-640.tar.gz", _D[2:7]),
    ("imagenet", "efficientnet/ckptsaug/{}.tar.gz", [f"efficientnet-b{size}" for size in range(8)]),
)
# What a run that starts from these weights begins with where nobody says otherwise.
_HPARAMS = {
    "advprop": "mean_rgb: 127.5\nstddev_rgb: 127.5\n",
    "coco640": "image_size: 640\n",
}


def main() -> None:
    """Downloads what the command line names."""
    parser = fetch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="efficientdet-d0 ... d7x, lite0 ... lite4, or a backbone's")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="default: this one")
    parser.add_argument("--set", help="one of the sets above")
    parser.add_argument("--sha256", type=str.lower, help="what the archive must have")
    given = parser.parse_args()
    fetch.require_sha256("sha256", given.sha256)
    chosen, path = find(given.model, given.set)
    newest = find(given.model)[0]
    target = given.folder / (given.model if chosen == newest else f"{given.model}-{chosen}")
    flag = "--backbone_ckpt" if chosen == "imagenet" else "--ckpt"
    if not _is_there(target, given.sha256):
        with writing_alone(given.folder):
            if not _is_there(target, given.sha256):  # nor has another process made it meanwhile
                _download(path, target, given.sha256, _HPARAMS.get(chosen, ""))
                print(f"{target}: ready ({chosen}), use {flag}={target}")
                return
    print(f"{target} is there already: use {flag}={target}")


def _is_there(target: Path, sha256: str | None) -> bool:
    there = any(target.glob("*.index"))
    if there and sha256:
        raise UserError(
            f"{target} is there already, unpacked, so that --sha256 cannot be compared; remove "
            "the folder to download it again"
        )
    return there


def _download(path: str, target: Path, sha256: str | None, hparams: str) -> None:
    url = f"{os.environ.get('CHECKPOINT_URL') or BASE}/{path}"
    part = target.with_name(f"{target.name}{'.tgz' if path.endswith('.tgz') else '.tar.gz'}.part")
    fetch.fetch(fetch.ask(url), part)
    try:
        fetch.check_sha256(part, sha256, url)
    except UserError as error:
        fetch.remove(part)
        raise UserError(f"{error}; removed, nothing was unpacked") from None
    unpack(part, target, hparams, url)


def find(model: str, chosen: str | None = None) -> tuple[str, str]:
    """(set, path below the base address) of the weights of `model`; the newest without `chosen`.

    Raises:
        UsageError: never published; lists what was.
    """
    paths: dict[str, str] = {}
    for name, path, models in _PUBLISHED:
        if model in models:
            paths.setdefault(name, path.format(model))
    if not paths:
        raise UsageError(
            f"unknown model {model!r}: published are efficientdet-d0 .. d7, d7x, "
            "efficientdet-lite0 .. lite4, lite3x and efficientnet-b0 .. b7"
        )
    if chosen is None:
        return next(iter(paths.items()))
    if chosen not in paths:
        raise UsageError(f"--set={chosen}: {model} is published as {', '.join(paths)} only")
    return chosen, paths[chosen]


def unpack(archive: Path, target: Path, hparams: str, url: str) -> None:
    """Makes `target` of the one folder in `archive` that holds a checkpoint; removes `archive`.

    Args:
        hparams: becomes `target`/hparams.yaml, which a run that starts there reads.

    Raises:
        UserError: no such archive; it is removed all the same, and `target` is not made.
    """
    folder = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir()
    try:
        problem = ""
        try:
            unpack_archive(archive, folder)
        except ArchiveError as error:
            problem = f": {error}"
        found = {path.parent for path in folder.rglob("*.index")}
        if problem or len(found) != 1:
            size = fetch.size_of(archive)
            fetch.remove(archive)
            raise UserError(
                f"{url}: complete ({size:,} bytes), but no archive of one checkpoint{problem}; "
                "removed, nothing was unpacked"
            )
        (source,) = found
        if hparams:
            (source / "hparams.yaml").write_text(hparams)
        source.chmod(0o755)
        source.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    fetch.remove(archive)


if __name__ == "__main__":
    ending.run(main, "run the same command to go on")
