"""The same step by rwightman/efficientdet-pytorch: torch.compile, channels_last, autocast.

Targets, focal and box loss, backward, clipping and SGD with momentum, on the same made-up batch.
Averages of the weights, which our step makes too, are left out in its favour; so is the host's
copy from half precision to float32.
"""

import importlib.util
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.gpu.settings import Rows, Said, Settings, Turn
from benchmarks.gpu.step_program import made_up_batch, mean_seconds

NEEDED = ("torch", "timm", "effdet")
SIDES = 128  # pixels: the stride of its coarsest level


def rows(settings: Settings, turn: Turn) -> Rows:
    """A row for each batch size; one that says what is missing where something is."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        yield Said(settings.what, {}, f"left out: not installed: {', '.join(missing)}")
        return
    config = settings.config()
    if any(side % SIDES for side in config.image_hw):
        yield Said(settings.what, {}, f"left out: effdet wants sides in multiples of {SIDES}")
        return
    import effdet
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = effdet.get_efficientdet_config(f"tf_{config.name.replace('-', '_')}")
    network.image_size, network.num_classes = config.image_hw, config.num_classes
    if settings.tiny:
        network.fpn_cell_repeats, network.box_class_repeats = 1, 1
    model = effdet.EfficientDet(network, pretrained_backbone=False)
    bench = effdet.DetBenchTrain(model, create_labeler=True)
    bench = bench.to(device=device, memory_format=torch.channels_last).train()
    turn()
    if not settings.tiny:
        bench.model = torch.compile(bench.model)
    backend = f"PyTorch {torch.__version__}, effdet {version('effdet')}"
    for size in settings.batch_sizes:
        what = f"{settings.what}, batch {size}"
        seconds, peak = _timed(bench, config, size, device, settings)
        figures = {"img/s": size / seconds[0], "img/s, batch on the device": size / seconds[1]}
        if peak:
            figures["GB measured"] = peak / 1e9
        yield Said(what, figures, backend=backend, dtype=settings.precision)


def _timed(
    bench: Any, config: Any, size: int, device: str, settings: Settings
) -> tuple[list[float], int]:
    """([seconds a step with the batch uploaded, with the batch on the device], peak bytes)."""
    import torch

    dtype = torch.bfloat16 if settings.precision != "float32" else torch.float32
    host = _host_batch(config, size, pin=device == "cuda")
    optimizer = torch.optim.SGD(bench.parameters(), lr=1e-4, momentum=0.9)

    def upload() -> tuple[Any, dict[str, Any]]:
        images, *rest = (x.to(device, non_blocking=True) for x in host)
        images = images.to(memory_format=torch.channels_last)
        return images, dict(zip(("bbox", "cls"), rest, strict=True))

    def step(images: Any, target: dict[str, Any]) -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss = bench(images, target)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(bench.parameters(), 10.0)
        optimizer.step()

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    there = upload()
    found = [
        mean_seconds(_repeated(work, device), settings.seconds)
        for work in (lambda: step(*upload()), lambda: step(*there))
    ]
    return found, torch.cuda.max_memory_allocated() if device == "cuda" else 0


def _host_batch(config: Any, size: int, *, pin: bool) -> list[Any]:
    """Images [B, 3, H, W], boxes [B, M, 4] ymin xmin ymax xmax, classes [B, M], -1 for none."""
    import torch

    batch = made_up_batch(config, size)
    classes = np.where(batch["classes"] > 0, batch["classes"], -1).astype(np.float32)
    arrays = (batch["images"].transpose(0, 3, 1, 2), batch["boxes"], classes)
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    return [tensor.pin_memory() for tensor in tensors] if pin else tensors


def _repeated(work: Callable[[], None], device: str) -> Callable[[int], float]:
    import torch

    def run(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return run
