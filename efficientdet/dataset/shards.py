"""Are the record files those that their manifest tells of?"""

from collections.abc import Sequence
from pathlib import Path

from efficientdet.dataset.manifest import Manifest, manifest_path
from efficientdet.dataset.tfrecord import base_path, shard_paths
from efficientdet.errors import UserError


def shard_problems(files: Sequence[Path]) -> list[str]:
    """One line for each file that has another size than its manifest says, or is not in it.

    A record that was renamed together with its manifest is still the same; one without a manifest
    has nothing to be held against.
    """
    by_manifest: dict[Path, list[Path]] = {}
    for path in files:
        by_manifest.setdefault(manifest_path(path), []).append(path)
    return [
        problem
        for manifest, paths in by_manifest.items()
        if manifest.exists()
        for problem in _problems(manifest, paths)
    ]


def require_shards(files: Sequence[Path]) -> None:
    """Raises UserError with the first of `shard_problems`."""
    for problem in shard_problems(files):
        raise UserError(problem)


def _problems(manifest: Path, files: Sequence[Path]) -> list[str]:
    shards = Manifest.load(manifest).shards
    if not shards:  # it tells nothing of its files
        return []
    names = [path.name for path in shard_paths(base_path(files[0]), len(shards))]
    sizes = {shard.name: shard.num_bytes for shard in shards}
    sizes |= {name: shard.num_bytes for name, shard in zip(names, shards, strict=True)}
    problems = []
    for path in files:
        found, said = path.stat().st_size, sizes.get(path.name)
        if said is None:
            problems.append(
                f"{path}: not one of the {len(shards)} files that {manifest.name} tells of, from "
                f"{names[0]} on: it is left from another conversion; name those, or convert again"
            )
        elif found != said:
            problems.append(
                f"{path}: {found:,} bytes, but {manifest.name} says {said:,}: it was cut off or "
                "replaced; copy it again, or run create_kitti_tf_record.py with --overwrite"
            )
    return problems
