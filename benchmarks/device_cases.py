"""What `benchmarks.device` times; needs a GPU."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.device_clock import DeviceClock, Timed, Work
from benchmarks.device_load import LoadEngine
from benchmarks.device_rows import Comparison, Skipped
from fcn_trt.bench.device_ceiling import device_copy_gb_per_s
from fcn_trt.cuda.device_stages import DeviceStages, FrameView, palette_table
from fcn_trt.cuda.memory import DeviceArray, copy_on_device
from fcn_trt.cuda.nvrtc import compile_kernels
from fcn_trt.labels import numbered_label_set, palette_array
from fcn_trt.runtime.tensorrt import SLOTS, DeviceBackend
from fcn_trt.scene.scene import StreetScene
from fcn_trt.spec import Frame, Size, Spec

__all__ = ["Bench"]

CLASSES, STRIDE = 21, 8
DECODED: Size = (1024, 2048)
FRAME: Size = (1080, 1920)
NETWORK: Size = (512, 1024)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
WORKING_SET_BYTES = 256 << 20
"""More than the second-level cache of any GPU: 50 MB on an H100, 60 on an H200, 126 on a B200."""
TORCH_CALLS = 16
EXECUTOR_MS = (0.5, 2.0, 5.0)
PIPELINE_FRAMES = 100


class Bench:
    """Every comparison, on one GPU.

    Attributes:
        copy_bytes_per_s: Bytes read and written by the copy of a large buffer; 0 before it was
            measured.
    """

    def __init__(self, clock: DeviceClock) -> None:
        self.copy_bytes_per_s = 0.0
        self._clock, self._stream = clock, clock.stream
        self._cubins = compile_kernels(clock.context.compute_capability)

    def rows(self) -> Iterator[Comparison | Skipped]:
        """Every comparison, as soon as it is done."""
        self.copy_bytes_per_s = 1e9 * device_copy_gb_per_s()
        with DeviceStages(self._clock.context, self._cubins) as stages:
            yield from self._kernels(stages)
        for executor_ms in EXECUTOR_MS:
            yield self._pipeline(executor_ms)

    def _kernels(self, stages: DeviceStages) -> Iterator[Comparison | Skipped]:
        yield from self._decode(stages, "street", street_logits())
        noise = np.random.default_rng(0).standard_normal((CLASSES, *logits_size(DECODED)))
        yield from self._decode(stages, "noise", noise.astype(np.float16))
        yield from self._preprocess(stages)
        yield from self._overlay(stages)

    def _decode(
        self, stages: DeviceStages, kind: str, logits: npt.NDArray[np.float16]
    ) -> Iterator[Comparison | Skipped]:
        pixels = DECODED[0] * DECODED[1]
        size_bytes = logits.nbytes + pixels
        case = f"decode {DECODED[0]}x{DECODED[1]}, {CLASSES} classes, {kind}"
        with ExitStack() as memory:
            sets = [
                (self._clock.upload(logits, memory), self._clock.room(pixels, memory))
                for _ in range(sets_for(size_bytes))
            ]
            ours = self._clock.in_graph(
                [
                    partial(
                        stages.decode,
                        self._stream,
                        source,
                        logits.shape,
                        logits.dtype,
                        DECODED,
                        target,
                        align_corners=False,
                    )
                    for source, target in sets
                ],
                memory,
            )
            yield from self._against_bytes(case, ours, size_bytes, asked=1.5)
            yield self._against_torch(case, ours, [source for source, _ in sets], logits)

    def _against_torch(
        self, case: str, ours: Timed, addresses: list[int], logits: npt.NDArray[np.float16]
    ) -> Comparison | Skipped:
        reference = "torch interpolate + argmax, FP16"
        try:
            torch: Any = import_module("torch")
        except ImportError as error:
            return Skipped(case=f"{case}, against torch", reason=f"needs torch: {error}")
        if not torch.cuda.is_available():
            reason = f"torch {torch.__version__} does not see the GPU"
            return Skipped(case=f"{case}, against torch", reason=reason)
        shape = (1, *logits.shape)
        tensors = itertools.cycle(
            torch.as_tensor(
                DeviceArray(shape=shape, dtype=logits.dtype, address=address, owner=None),
                device="cuda",
            )
            for address in addresses
        )
        stream = torch.cuda.ExternalStream(self._stream.handle)

        def theirs() -> None:
            with torch.inference_mode(), torch.cuda.stream(stream):
                full = torch.nn.functional.interpolate(
                    next(tensors), size=DECODED, mode="bilinear", align_corners=False
                )
                full.argmax(dim=1)

        times = self._clock.turns(
            {"ours": ours, "torch": partial(self._clock.time, theirs, TORCH_CALLS)}
        )
        return Comparison(
            case=case,
            seconds=times["ours"],
            reference=reference,
            reference_seconds=times["torch"],
            sense="at least",
            asked=10,
        )

    def _preprocess(self, stages: DeviceStages) -> Iterator[Comparison]:
        frame = street(FRAME)
        tensor_bytes = 3 * NETWORK[0] * NETWORK[1] * 4
        size_bytes = frame.nbytes + tensor_bytes
        with ExitStack() as memory:
            works: list[Work] = [
                partial(
                    stages.preprocess,
                    self._stream,
                    view_of(self._clock.upload(frame, memory)),
                    self._clock.room(tensor_bytes, memory),
                    NETWORK,
                    mean=MEAN,
                    std=STD,
                    dtype=np.float32,
                )
                for _ in range(sets_for(size_bytes))
            ]
            case = f"preprocess {FRAME[0]}x{FRAME[1]} to {NETWORK[0]}x{NETWORK[1]}"
            ours = self._clock.in_graph(works, memory)
            yield from self._against_bytes(case, ours, size_bytes, asked=2)

    def _overlay(self, stages: DeviceStages) -> Iterator[Comparison]:
        frame, labels = street(FRAME), StreetScene(7).render(0, FRAME)[1].astype(np.uint8)
        size_bytes = 2 * frame.nbytes + labels.nbytes
        palette = palette_table(palette_array(numbered_label_set(CLASSES).palette))
        with ExitStack() as memory:
            table = self._clock.upload(palette, memory)
            works: list[Work] = [
                partial(
                    stages.overlay,
                    self._stream,
                    view_of(self._clock.upload(frame, memory)),
                    self._clock.upload(labels, memory),
                    FRAME,
                    table,
                    self._clock.room(frame.nbytes, memory),
                    opacity=0.5,
                )
                for _ in range(sets_for(size_bytes))
            ]
            ours = self._clock.in_graph(works, memory)
            case = f"overlay {FRAME[0]}x{FRAME[1]}"
            yield from self._against_bytes(case, ours, size_bytes, asked=2)

    def _against_bytes(
        self, case: str, ours: Timed, size_bytes: int, *, asked: float
    ) -> Iterator[Comparison]:
        """Against the time of the bytes at the large copy's speed, and a copy of as many."""
        half = size_bytes // 2
        with ExitStack() as memory:
            pairs = [
                (self._clock.room(half, memory), self._clock.room(half, memory))
                for _ in range(sets_for(size_bytes))
            ]
            copies: list[Work] = [
                partial(copy_on_device, target, source, half, self._stream)
                for target, source in pairs
            ]
            times = self._clock.turns({"ours": ours, "copy": self._clock.in_graph(copies, memory)})
        bytes_seconds = size_bytes / self.copy_bytes_per_s
        sense: Literal["at most"] = "at most"
        yield Comparison(
            case=case,
            seconds=times["ours"],
            reference=f"bytes ({size_bytes / 1e6:.1f} MB)",
            reference_seconds=[bytes_seconds] * len(times["ours"]),
            sense=sense,
            asked=asked,
        )
        yield Comparison(
            case=case,
            seconds=times["ours"],
            reference=f"copy ({size_bytes / 1e6:.1f} MB)",
            reference_seconds=times["copy"],
            sense=sense,
            asked=None,
        )

    def _pipeline(self, executor_ms: float) -> Comparison:
        """Three slots, from frames in the host's memory to label maps there."""
        spec = network_spec()
        frames = [street(FRAME, index) for index in range(4)]
        with ExitStack() as memory:
            logits = street_logits(NETWORK)
            engine = LoadEngine(
                self._clock.context,
                self._clock.upload(logits, memory),
                logits.nbytes,
                duration_ms=executor_ms,
            )
            backend = DeviceBackend(
                self._clock.context, spec, cubins=self._cubins, engine=engine, description="a load"
            )
            memory.callback(backend.close)
            alone = engine.executor((1, 3, *NETWORK))
            memory.callback(alone.close)
            target = self._clock.room(logits.nbytes, memory)
            enqueue = partial(alone.enqueue, {}, {"logits": target}, self._stream.handle)
            times = self._clock.turns(
                {
                    "alone": partial(self._clock.time, enqueue, PIPELINE_FRAMES),
                    "pipeline": partial(self._time_pipeline, backend, frames),
                },
                runs=max(self._clock.runs // 3, 3),
            )
        return Comparison(
            case=f"pipeline, {SLOTS} slots, {FRAME[0]}x{FRAME[1]} frames",
            seconds=times["pipeline"],
            reference=f"its executor alone ({executor_ms:g} ms)",
            reference_seconds=times["alone"],
            sense="at most",
            asked=1.1 if executor_ms >= 2 else None,
        )

    def _time_pipeline(self, backend: DeviceBackend, frames: list[Frame]) -> float:
        """Seconds per frame, from the first label map to the last: N maps are N - 1 intervals."""
        clock, submitted, collected = self._clock, deque[int](), 0
        for index in range(PIPELINE_FRAMES + 1 + backend.slots):
            if len(submitted) == backend.slots:
                backend.collect(submitted.popleft())
                collected += 1
                if collected == 1:
                    clock.start.record(clock.stream)
            if collected == PIPELINE_FRAMES + 1:
                break
            slot = index % backend.slots
            backend.submit(slot, [frames[index % len(frames)]])
            submitted.append(slot)
        clock.end.record(clock.stream)
        for slot in submitted:
            backend.collect(slot)
        clock.end.synchronize()
        return clock.end.elapsed_ms(clock.start) / 1000 / PIPELINE_FRAMES


def sets_for(size_bytes: int) -> int:
    """How many sets of buffers of so many bytes no cache holds."""
    return max(4, -(-WORKING_SET_BYTES // size_bytes))


def logits_size(size: Size) -> Size:
    """(h, w) of the logits of an image."""
    return size[0] // STRIDE, size[1] // STRIDE


def street(size: Size, index: int = 0) -> Frame:
    """A drawn street."""
    frame: Frame = StreetScene(7).render(index, size)[0]
    return frame


def street_logits(size: Size = DECODED) -> npt.NDArray[np.float16]:
    """(C, h, w): those of a good network on a drawn street; it is never quite sure."""
    _, labels = StreetScene(7).render(20, size)
    height, width = logits_size(size)
    blocks = labels.clip(max=CLASSES - 1).reshape(height, STRIDE, width, STRIDE)
    shares = np.stack([(blocks == index).mean(axis=(1, 3)) for index in range(CLASSES)])
    noise = np.random.default_rng(0).standard_normal(shares.shape)
    return (8 * shares + 0.5 * noise).astype(np.float16)


def network_spec() -> Spec:
    """Of a network that is not there."""
    labels = numbered_label_set(CLASSES)
    return Spec(
        model="load",
        family="onnx",
        weights="none",
        labels=labels.name,
        classes=labels.classes,
        palette=labels.palette,
        mean=MEAN,
        std=STD,
        input_size=NETWORK,
        batch=1,
        stride=STRIDE,
        align_corners=False,
        precision="fp16",
        logits_type="float16",
        source_sha256="",
        licence="",
    )


def view_of(address: int) -> FrameView:
    """A frame of the benchmark's size."""
    return FrameView(address=address, size=FRAME, pitch_bytes=FRAME[1] * 3, layout="bgr")
