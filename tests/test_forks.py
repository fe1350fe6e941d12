from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from fcn_trt.errors import EngineError
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.stages.decode import BAND_PIXELS, decode
from tests.processes import TIMEOUT_S, forked

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

REFUSAL = (
    "OpenVINO cannot {work} in process N, which was forked from one that had used OpenVINO already "
    "and whose threads it lacks; start processes by 'spawn' or 'forkserver', or load bundles in "
    "the forked ones only"
)


@pytest.fixture
def segmenter(tiny_bundle):
    with Segmenter.load(tiny_bundle.path) as opened:
        yield opened


@pytest.fixture(params=["used", "loaded alone", "in a stream", "at work in another thread"])
def inherited(request, segmenter, make_frame):
    """A segmenter, in several states, to fork with."""
    if request.param == "used":
        segmenter.segment(make_frame())
    stream = segmenter.stream(make_frame() for _ in range(9))
    if request.param == "in a stream":
        next(stream)
    ended = threading.Event()

    def work():
        while not ended.is_set():
            segmenter.segment(make_frame((300, 500)))

    thread = threading.Thread(target=work)
    if request.param == "at work in another thread":
        thread.start()
    yield segmenter
    ended.set()
    stream.close()
    if thread.ident is not None:
        thread.join()


def test_segmenter_refuses_work_in_a_forked_process(inherited, make_frame):
    found = forked(lambda: inherited.segment(make_frame()))
    assert found == REFUSAL.format(work="run a network")


@pytest.mark.parametrize("name", ["segment_batch", "stream", "logits", "render", "time_stages"])
def test_each_way_to_work_is_refused(segmenter, make_frame, name):
    frames = make_frame() if name in ("render", "time_stages") else [make_frame()]
    work = lambda: getattr(segmenter, name)(frames)  # noqa: E731
    found = forked(lambda: list(work()) if name == "stream" else work())
    assert found == REFUSAL.format(work="run a network")


def test_closing_and_forgetting_it_there_ends_at_once_and_leaves_it_whole_here(
    segmenter, make_frame, caplog
):
    expected = segmenter.segment(make_frame())
    stream = segmenter.stream(make_frame() for _ in range(9))
    next(stream)

    def leave():
        stream.close()
        segmenter.close()
        segmenter.close()
        vars(segmenter).clear()
        return caplog.text

    assert forked(leave) == ""
    stream.close()
    np.testing.assert_array_equal(segmenter.segment(make_frame()), expected)


@pytest.mark.parametrize("is_closed", [False, True])
def test_bundle_is_not_loaded_anew_there(tiny_bundle, make_frame, is_closed):
    """Its network would be given to an idle thread that was closed with the parent's."""
    segmenter = Segmenter.load(tiny_bundle.path)
    segmenter.segment(make_frame())
    if is_closed:
        segmenter.close()
        del segmenter
    found = forked(lambda: Segmenter.load(tiny_bundle.path))
    assert found == REFUSAL.format(work=f"compile {tiny_bundle.network.path}")


def test_what_needs_no_network_works_there(segmenter, make_frame):
    frame = make_frame((600, 700))  # two bands of `decode`, and so threads
    logits = np.random.default_rng(0).normal(size=(3, 75, 88)).astype(np.float32)
    assert frame[..., 0].size > BAND_PIXELS
    label_map = decode(logits, (600, 700))
    view = segmenter.render(frame, label_map)

    def again():
        same = (decode(logits, (600, 700)) == label_map).all()
        return same and (segmenter.render(frame, label_map) == view).all()

    assert forked(again) == "True"


class Labels:
    """A data set of torch whose items a segmenter computes."""

    def __init__(self, segmenter, frame):
        self.segmenter, self.frame = segmenter, frame

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.segmenter.segment(self.frame)


_inherited: list[Labels] = []


def first_label():
    return _inherited[0][0]


def test_pool_of_processes_hands_the_refusal_on(segmenter, make_frame):
    labels = Labels(segmenter, make_frame())
    fork = multiprocessing.get_context("fork")
    with (
        fork.Pool(1, initializer=_inherited.append, initargs=(labels,)) as pool,
        pytest.raises(EngineError, match="forked from one that had used OpenVINO"),
    ):
        pool.apply_async(first_label).get(TIMEOUT_S)


def test_worker_of_a_torch_data_loader_hands_the_refusal_on(segmenter, make_frame):
    data = pytest.importorskip("torch.utils.data")
    labels = Labels(segmenter, make_frame())
    loader = data.DataLoader(labels, num_workers=1, multiprocessing_context="fork", timeout=30)
    with pytest.raises(EngineError, match="forked from one that had used OpenVINO"):
        list(loader)


def test_forked_processes_end_as_any_other_and_load_their_own_before_the_parent_does(tiny_bundle):
    """They end by way of Python, whose end frees everything."""
    script = """
        import os, signal, sys
        import numpy as np
        from fcn_trt.runtime.segmenter import Segmenter

        def end_of_child(work):
            child = os.fork()
            if not child:
                signal.alarm(30)
                work()
                sys.exit(3)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        def segment():
            segmenter = Segmenter.load(sys.argv[1])
            assert segmenter.segment(np.zeros((600, 700, 3), np.uint8)).shape == (600, 700)
            return segmenter

        before = end_of_child(segment)
        segmenter = segment()
        used = end_of_child(int)
        segmenter.close()
        del segmenter
        print(before, used, end_of_child(int))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tiny_bundle.path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("3 3 3\n", "")
