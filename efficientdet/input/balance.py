"""Repeat-factor sampling: frames with rare classes are seen more often (LVIS, arXiv 1908.03195)."""

from collections.abc import Sequence

import numpy as np


def repeat_factors(classes: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """How often each frame should be seen in an epoch (appendix B.2 there).

    A class in a share f of all frames has the factor max(1, sqrt(threshold / f)); a frame has the
    largest factor of its classes.

    Args:
        classes: for each frame the ids of its objects; those below 1 do not count: of eight
            classes the rarest would decide, so the caller leaves only those it cares for.
        threshold: t in 0..1; 0 gives 1 everywhere.

    Returns:
        float64 [N], at least 1.
    """
    present = [np.unique(ids[np.asarray(ids) > 0]) for ids in classes]
    ids, counts = np.unique(np.concatenate([*present, []]), return_counts=True)
    by_class = np.maximum(1.0, np.sqrt(threshold * len(classes) / counts))
    return np.array(
        [by_class[np.searchsorted(ids, frame)].max(initial=1.0) for frame in present], np.float64
    )


def epoch_order(factors: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The frames of one epoch in their order, int64: a permutation, repeats included.

    Frame i stands in it floor or ceil of factors[i] times, on average factors[i] times (systematic
    sampling). Its length, the sum of the factors rounded down, is the same in every epoch.
    """
    rng = np.random.default_rng((seed, epoch))
    shuffled = rng.permutation(len(factors))
    length = int(np.sum(factors) + 1e-6)
    edges = np.cumsum(factors[shuffled]) * (length / np.sum(factors))
    edges[-1] = length
    upto = np.floor(edges + rng.uniform()).astype(np.int64)
    counts = np.diff(upto, prepend=0)
    return rng.permutation(np.repeat(shuffled, counts))
