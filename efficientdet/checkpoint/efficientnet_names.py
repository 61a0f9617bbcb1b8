"""EfficientNet's variables under the names of other programs -> AutoML's."""

import re
from collections.abc import Mapping

import numpy as np

from efficientdet.errors import UserError
from efficientdet.model.efficientnet import SCALING, scaled_stages

_TORCH_BN = {
    "weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
    "running_var": "moving_variance",
}  # fmt: skip
_BN, _CONV = "tpu_batch_normalization", "conv2d"
_TORCH_BLOCK = re.compile(r"_blocks\.(\d+)\.(_\w+)\.(\w+)")


def from_torch(arrays: Mapping[str, np.ndarray], wanted: str, path: str) -> dict[str, np.ndarray]:
    """The arrays of a .pth file by AutoML name, kernels as HWIO (depthwise HWC1).

    The classifier's own (`_conv_head`, `_bn1`, `_fc`) keep their names: no detector has them.

    Args:
        wanted: the backbone to be filled; variables of one that cannot be told are called so.
        path: for errors.

    Raises:
        UserError: none of the names is an EfficientNet's.
    """
    blocks = {int(m[1]) for name in arrays if (m := _TORCH_BLOCK.match(name))}
    if "_conv_stem.weight" not in arrays or not blocks:
        raise UserError(
            f"{path}: PyTorch weights, first {next(iter(arrays))}; expected those of an "
            "EfficientNet, _conv_stem, _blocks.0._depthwise_conv, ..."
        )
    expanded = {i for i in blocks if f"_blocks.{i}._expand_conv.weight" in arrays}
    filters = [arrays.get(f"_blocks.{i}._project_conv.weight") for i in sorted(blocks)]
    has_se = any("._se_reduce." in name for name in arrays)
    sizes = [len(kernel) for kernel in filters if kernel is not None]
    backbone = which(len(arrays["_conv_stem.weight"]), sizes, has_se) or wanted
    result = {}
    for name, array in arrays.items():
        if name.endswith(".num_batches_tracked"):  # a counter that PyTorch's BatchNorm keeps
            continue
        other = _of_torch(name, expanded)
        if other is None:
            result[name] = array
        elif other.endswith("kernel"):
            # A depthwise kernel C1HW becomes HW1C by OIHW -> HWIO; AutoML has HWC1.
            order = (2, 3, 0, 1) if "depthwise" in other else (2, 3, 1, 0)
            result[f"{backbone}/{other}"] = _floats(np.transpose(array, order))
        else:
            result[f"{backbone}/{other}"] = _floats(array)
    return result


def which(stem: int, filters: list[int], has_se: bool) -> str | None:
    """The backbone with so many filters in the stem and behind each block; None: none has."""
    for name in SCALING:
        stages, stem_filters = scaled_stages(name)
        blocks = [stage.filters for stage in stages for _ in range(stage.repeats)]
        if (stem_filters, blocks, "lite" not in name) == (stem, filters, has_se):
            return name
    return None


def _of_torch(name: str, expanded: set[int]) -> str | None:
    """`blocks_1/conv2d/kernel` of `_blocks.1._expand_conv.weight`."""
    if name == "_conv_stem.weight":
        return f"stem/{_CONV}/kernel"
    if name.startswith("_bn0.") and (leaf := _TORCH_BN.get(name.removeprefix("_bn0."))):
        return f"stem/{_BN}/{leaf}"
    match = _TORCH_BLOCK.fullmatch(name)
    if not match:
        return None
    index, layer, leaf = match.groups()
    return block_name(int(index), int(index) in expanded, layer, leaf)


def block_name(index: int, has_expand: bool, layer: str, leaf: str) -> str | None:
    """AutoML numbers layers of one kind in their order; a block that does not expand has less."""
    second = "_1" if has_expand else ""
    third = "_2" if has_expand else "_1"
    layers = {
        "_expand_conv": _CONV, "_bn0": _BN, "_depthwise_conv": "depthwise_conv2d",
        "_bn1": f"{_BN}{second}", "_se_reduce": f"se/{_CONV}", "_se_expand": f"se/{_CONV}_1",
        "_project_conv": f"{_CONV}{second}", "_bn2": f"{_BN}{third}",
    }  # fmt: skip
    if layer not in layers:
        return None
    if layer.startswith("_bn"):
        leaf = _TORCH_BN.get(leaf)
    elif layer == "_depthwise_conv" and leaf == "weight":
        leaf = "depthwise_kernel"
    else:
        leaf = {"weight": "kernel", "bias": "bias"}.get(leaf)
    return f"blocks_{index}/{layers[layer]}/{leaf}" if leaf else None


def _floats(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)
