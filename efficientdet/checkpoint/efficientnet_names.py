"""EfficientNet's variables under the names of PyTorch's and Keras's programs -> AutoML's."""

import re
from collections.abc import Callable, Mapping

import numpy as np

from efficientdet.errors import UserError
from efficientdet.model.efficientnet import SCALING, scaled_stages

_BN = "tpu_batch_normalization"
# What a layer is: AutoML's name of it in a block that expands, and in one that does not. It numbers
# the layers of one kind in their order.
_AUTOML = {
    "stem": ("conv2d", "conv2d"),
    "stem_bn": (_BN, _BN),
    "expand": ("conv2d", ""),
    "expand_bn": (_BN, ""),
    "depthwise": ("depthwise_conv2d", "depthwise_conv2d"),
    "depthwise_bn": (f"{_BN}_1", _BN),
    "se_reduce": ("se/conv2d", "se/conv2d"),
    "se_expand": ("se/conv2d_1", "se/conv2d_1"),
    "project": ("conv2d_1", "conv2d"),
    "project_bn": (f"{_BN}_2", f"{_BN}_1"),
}
# The same layers in the order above, as the others call them.
_STEM, _BLOCK = tuple(_AUTOML)[:2], tuple(_AUTOML)[2:]
_TORCH_STEM = dict(zip(("_conv_stem", "_bn0"), _STEM, strict=True))
_TORCH_BLOCK = dict(
    zip(
        ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_se_reduce", "_se_expand",
         "_project_conv", "_bn2"),
        _BLOCK,
        strict=True,
    )
)  # fmt: skip
_KERAS_STEM = dict(zip(("stem_conv", "stem_bn"), _STEM, strict=True))
_KERAS_BLOCK = dict(
    zip(
        ("expand_conv", "expand_bn", "dwconv", "bn", "se_reduce", "se_expand", "project_conv",
         "project_bn"),
        _BLOCK,
        strict=True,
    )
)  # fmt: skip
_TORCH_CONV_LEAVES = {"weight": "kernel", "bias": "bias"}
_TORCH_BN_LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}

# Of a foreign name: the block, in the order of names, or "" for the stem; the layer; its weight.
Place = tuple[str, str, str]


def from_torch(arrays: Mapping[str, np.ndarray], wanted: str, path: str) -> dict[str, np.ndarray]:
    """The arrays of a .pth file by AutoML name, kernels as HWIO (depthwise HWC1).

    The classifier's own (`_conv_head`, `_bn1`, `_fc`) keep their names: no detector has them.

    Args:
        wanted: the backbone to be filled; what is shaped like no other is called so.
        path: for errors.

    Raises:
        UserError: none of the names is an EfficientNet's.
    """
    # A counter that PyTorch's BatchNorm keeps, and no weight.
    kept = {n: a for n, a in arrays.items() if not n.endswith("num_batches_tracked")}
    return _renamed(kept, _torch_place, _hwio, wanted, path)


def from_keras(arrays: Mapping[str, np.ndarray], wanted: str, path: str) -> dict[str, np.ndarray]:
    """The same for an EfficientNet of `keras.applications`, whose kernels are as AutoML's."""
    # What its first layer does to pixels, and no weight.
    kept = {n: a for n, a in arrays.items() if not n.startswith("normalization")}
    return _renamed(kept, _keras_place, lambda kernel, layer: kernel, wanted, path)


def is_keras(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether the names are those of an EfficientNet of `keras.applications`."""
    return "stem_conv/kernel" in arrays


def _renamed(
    arrays: Mapping[str, np.ndarray],
    place_of: Callable[[str], Place | None],
    turned: Callable[[np.ndarray, str], np.ndarray],
    wanted: str,
    path: str,
) -> dict[str, np.ndarray]:
    """`turned`: a kernel of a layer as HWIO."""
    places = {name: place for name in arrays if (place := place_of(name))}
    blocks = sorted({block for block, _, _ in places.values()} - {""})
    if not blocks:
        raise UserError(
            f"{path}: {len(arrays)} arrays, first {next(iter(arrays), '')[:80]!r}; expected those "
            "of an EfficientNet, _conv_stem.weight (PyTorch) or stem_conv/kernel (Keras) and so on"
        )
    expanding = {block for block, layer, _ in places.values() if layer == "expand"}
    found = {}
    for name, (block, layer, leaf) in places.items():
        array = arrays[name]
        if leaf == "kernel" and array.ndim == 4:
            array = turned(array, layer)
        prefix = f"blocks_{blocks.index(block)}" if block else "stem"
        depthwise = "depthwise_" if layer == "depthwise" else ""
        automl = f"{prefix}/{_AUTOML[layer][block not in expanding if block else 0]}"
        found[f"{automl}/{depthwise}{leaf}"] = np.ascontiguousarray(array, np.float32)
    backbone = _shaped_like(found, len(blocks)) or wanted
    rest = {name: array for name, array in arrays.items() if name not in places}
    return {f"{backbone}/{name}": array for name, array in found.items()} | rest


def _torch_place(name: str) -> Place | None:
    match = re.fullmatch(r"(?:_blocks\.(\d{1,3})\.)?(_\w+)\.(\w+)", name)
    if not match:
        return None
    block, theirs, weight = match.groups()
    layer = (_TORCH_BLOCK if block else _TORCH_STEM).get(theirs, "")
    leaf = (_TORCH_BN_LEAVES if layer.endswith("_bn") else _TORCH_CONV_LEAVES).get(weight)
    return (block.zfill(3) if block else "", layer, leaf) if layer and leaf else None


def _keras_place(name: str) -> Place | None:
    match = re.fullmatch(r"(?:block(\d[a-z])_)?(\w+)/(?:depthwise_)?(\w+)", name)
    if not match:
        return None
    block, theirs, leaf = match.groups()
    layer = (_KERAS_BLOCK if block else _KERAS_STEM).get(theirs)
    return (block or "", layer, leaf) if layer else None


def _hwio(kernel: np.ndarray, layer: str) -> np.ndarray:
    """OIHW -> HWIO; depthwise C1HW -> HWC1."""
    return kernel.transpose((2, 3, 0, 1) if layer == "depthwise" else (2, 3, 1, 0))


def _shaped_like(arrays: Mapping[str, np.ndarray], num_blocks: int) -> str | None:
    """The backbone with so many filters in the stem and behind each block; None: none has."""

    def filters(prefix: str, layer: str) -> int:
        names = (f"{prefix}/{automl}/gamma" for automl in _AUTOML[layer])
        return next((arrays[name].size for name in names if name in arrays), 0)

    has_se = any("/se/" in name for name in arrays)
    behind = [filters(f"blocks_{block}", "project_bn") for block in range(num_blocks)]
    shape = filters("stem", "stem_bn"), behind, has_se
    for name in SCALING:
        stages, stem = scaled_stages(name)
        blocks = [stage.filters for stage in stages for _ in range(stage.repeats)]
        if (stem, blocks, "lite" not in name) == shape:
            return name
    return None
