"""The pipeline around executors of the tests, on the GPU: what is in flight changes no label."""

from __future__ import annotations

import hashlib
import logging
from collections import deque

import numpy as np
import pytest

from fcn_trt.labels import palette_array
from fcn_trt.spec import NO_LABEL
from fcn_trt.stages.overlay import overlay
from fcn_trt.stages.preprocess import preprocess
from tests.gpu.executors import (
    CopyEngine,
    copied_label_map,
    copied_logits,
    copy_spec,
    make_spec,
    random_frame,
)
from tests.gpu.oracle import assert_same_but_for_ties

FRAMES = 10_000
SIZES = ((64, 96), (97, 131), (120, 160), (33, 47), (240, 320))
RUN = 50
"""Frames of one size in a row, so that graphs are captured and thrown away in turn."""
FLAT_BYTES = 2 << 20
"""The driver gives memory out in pieces of 2 MiB."""


def frames(count):
    """Each other than all before."""
    for index in range(count):
        yield random_frame(SIZES[index // RUN % len(SIZES)], index)


def digests(backend, source, *, in_flight, each=None):
    """A hash of each label map, in order, with so many frames in flight."""
    found: list[bytes] = []
    submitted: deque[int] = deque()
    for index, frame in enumerate(source):
        slot = index % backend.slots
        backend.submit(slot, [frame])
        submitted.append(slot)
        if len(submitted) == in_flight:
            found.append(_digest(backend.collect(submitted.popleft())[0]))
        if each is not None:
            each(index)
    found += [_digest(backend.collect(slot)[0]) for slot in submitted]
    return found


def _digest(label_map):
    return hashlib.sha256(repr(label_map.shape).encode() + label_map.tobytes()).digest()


def memory_watch(device, found):
    """Writes down how much memory is taken, a few times a run."""

    def look(index):
        if index % (RUN * len(SIZES)) == RUN * len(SIZES) - 1:
            free, total = device.memory_bytes()
            found.append(total - free)

    return look


def test_ten_thousand_frames_have_the_same_labels_with_one_two_and_three_in_flight(
    device, make_backend
):
    spec = copy_spec((64, 96))
    alone = make_backend(spec, CopyEngine(spec), slots=1)
    expected = digests(alone, frames(FRAMES), in_flight=1)
    assert len(set(expected)) == FRAMES, "the content does not change"
    for slots in (2, 3):
        taken: list[int] = []
        backend = make_backend(spec, CopyEngine(spec), slots=slots)
        found = digests(backend, frames(FRAMES), in_flight=slots, each=memory_watch(device, taken))
        assert [
            i for i, pair in enumerate(zip(found, expected, strict=True)) if len({*pair}) > 1
        ] == []
        warm, *later = taken[1:]
        assert max(later) - warm <= FLAT_BYTES, f"device memory grew: {taken}"
        backend.close()


def test_labels_are_those_that_the_host_computes(make_backend):
    for align_corners in (False, True):
        spec = copy_spec((64, 96), align_corners=align_corners)
        backend = make_backend(spec, CopyEngine(spec))
        for index, size in enumerate(SIZES):
            frame = random_frame(size, index)
            for _ in range(4):  # plain, then captured
                backend.submit(0, [frame])
                (found,) = backend.collect(0)
                assert_same_but_for_ties(
                    found,
                    copied_label_map(spec, frame),
                    copied_logits(spec, frame),
                    align_corners=align_corners,
                )


def test_graph_gives_what_plain_launches_give(make_backend, monkeypatch, caplog):
    from fcn_trt.runtime import device_slot

    spec = copy_spec((64, 96))
    engine = CopyEngine(spec)
    with caplog.at_level(logging.WARNING):
        with_graph = digests(make_backend(spec, engine, slots=1), frames(200), in_flight=1)
    assert caplog.messages == [], "the capture was refused"
    # Two plain runs and one into the graph for each of the four changes of size.
    assert engine.executors[0].runs == 4 * (device_slot.WARM_UP_RUNS + 1)
    monkeypatch.setattr(device_slot, "WARM_UP_RUNS", FRAMES)
    plain = CopyEngine(spec)
    without = digests(make_backend(spec, plain, slots=1), frames(200), in_flight=1)
    assert plain.executors[0].runs == 200
    assert with_graph == without


def test_batch_of_several_sizes_has_the_labels_of_single_frames(make_backend):
    batch = [random_frame(size, index) for index, size in enumerate(SIZES[:3])]
    spec = copy_spec((64, 96))
    single = make_backend(spec, CopyEngine(spec), slots=1)
    expected = [digests(single, [frame], in_flight=1)[0] for frame in batch]
    spec = copy_spec((64, 96), batch=3)
    backend = make_backend(spec, CopyEngine(spec), slots=2)
    for _ in range(4):
        backend.submit(1, batch)
        assert [_digest(label_map) for label_map in backend.collect(1)] == expected
    backend.submit(1, batch[:2])
    assert [_digest(label_map) for label_map in backend.collect(1)] == expected[:2]


def test_logits_are_the_executors_own(make_backend):
    spec = copy_spec((64, 96))
    backend = make_backend(spec, CopyEngine(spec))
    frame = random_frame((97, 131), 1)
    backend.submit(2, [frame])
    found = backend.collect_logits(2)
    assert found.shape == (1, 48, 16, 24)
    assert np.abs(found[0] - copied_logits(spec, frame)).max() * max(spec.std) <= 0.5


def test_prepared_images_go_through_the_network_alone(make_backend):
    spec = copy_spec((64, 96))
    backend = make_backend(spec, CopyEngine(spec))
    images = np.random.default_rng(0).standard_normal((5, 3, 64, 96)).astype(np.float32)
    for count in (5, 1):
        np.testing.assert_array_equal(
            backend.network(images[:count]), images[:count].reshape(count, 48, 16, 24)
        )


def test_stages_are_timed_in_their_order_and_spoil_no_frame(make_backend):
    spec = copy_spec((64, 96))
    backend = make_backend(spec, CopyEngine(spec))
    frame = random_frame((97, 131), 1)
    backend.submit(0, [frame])
    (before,) = backend.collect(0)
    for _ in range(3):
        seconds = backend.time_stages(frame)
        assert list(seconds) == [
            *("copy in", "preprocess", "network", "decode", "copy out", "overlay")
        ]
        assert all(0 < value < 1 for value in seconds.values())
    backend.submit(0, [frame])
    np.testing.assert_array_equal(backend.collect(0)[0], before)


@pytest.mark.parametrize("opacity", [0.0, 0.4, 1.0])
def test_rendered_frame_is_the_hosts_overlay_within_one(make_backend, opacity):
    spec = copy_spec((64, 96))
    backend = make_backend(spec, CopyEngine(spec))
    palette = palette_array(spec.palette)
    for index, size in enumerate(SIZES):
        frame = random_frame(size, index)
        backend.submit(0, [frame])
        (label_map,) = backend.collect(0)
        assert NO_LABEL not in label_map
        for _ in range(4):
            found = backend.render(frame, opacity).astype(int)
            expected = overlay(frame, label_map, palette, opacity=opacity)
            assert np.abs(found - expected).max() <= 1


def torch_network(torch):
    """A real FCN with random weights, FP16, and its spec; an eighth of the channels."""
    from fcn_trt.model.architecture import architecture
    from fcn_trt.model.fcn import Fcn

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Fcn(architecture("fcn_r18-d8"), 19, base_width=16).eval()
    return module, make_spec((128, 256), classes=19, stride=8, logits_type="float16")


def test_torch_network_in_the_pipeline_gives_torchs_own_logits(torch, make_backend, caplog):
    from tests.gpu.torch_executor import TorchEngine

    module, spec = torch_network(torch)
    backend = make_backend(spec, TorchEngine(module, spec))
    frame = random_frame((240, 320), 3)
    for _ in range(4):  # plain, then captured
        backend.submit(1, [frame])
        backend.collect(1)
    backend.submit(1, [frame])
    found = backend.collect_logits(1)
    told = [record.message for record in caplog.records if record.name.startswith("fcn_trt")]
    assert told == [], "the capture was refused"
    image = preprocess(frame, spec.input_size, mean=spec.mean, std=spec.std)
    with torch.inference_mode():
        on_device = torch.from_numpy(image)[None].cuda().half()
        expected = module(on_device.to(memory_format=torch.channels_last)).float().cpu().numpy()
    # FP16 of 26 layers, whose convolutions torch may choose anew: a share of the deviation.
    assert np.abs(found - expected).max() <= 1e-2 * expected.std()


def test_torch_network_has_the_same_labels_whatever_is_in_flight(torch, device, make_backend):
    from tests.gpu.torch_executor import TorchEngine

    module, spec = torch_network(torch)
    alone = make_backend(spec, TorchEngine(module, spec), slots=1)
    expected = digests(alone, frames(2_000), in_flight=1)
    for slots in (2, 3):
        taken: list[int] = []
        backend = make_backend(spec, TorchEngine(module, spec), slots=slots)
        watch = memory_watch(device, taken)
        assert digests(backend, frames(2_000), in_flight=slots, each=watch) == expected
        warm, *later = taken[1:]
        assert max(later) - warm <= FLAT_BYTES, f"device memory grew: {taken}"
        backend.close()
