"""What differs between the backends, as far as it can be tried without a GPU."""

import jax
import pytest
import tensorflow as tf

from efficientdet import backend

XLA = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 5368709120 bytes."


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), True),
        (tf.errors.InternalError(None, None, XLA), True),
        (tf.errors.InternalError(None, None, "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY"), True),
        (tf.errors.UnknownError(None, None, "CUDNN_STATUS_ALLOC_FAILED in the plan"), True),
        (jax.errors.JaxRuntimeError(XLA), True),
        (MemoryError(), True),
        (tf.errors.InternalError(None, None, "Blas GEMM launch failed"), False),
        (jax.errors.JaxRuntimeError("INVALID_ARGUMENT: shapes"), False),
        (ValueError("a batch that is out of memory of the user"), False),
    ],
)
def test_out_of_memory_in_all_its_names(error: Exception, is_one: bool) -> None:
    assert backend.is_out_of_memory(error) == is_one
