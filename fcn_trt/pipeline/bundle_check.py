"""An engine is held against its network's source, before the bundle gets its name, or at any time.

Apart from the checks of networks, since this runs the whole runtime, which they do not depend on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.preflight import obstacle
from fcn_trt.pipeline.checks import counted, unchecked
from fcn_trt.runtime.check import check
from fcn_trt.runtime.segmenter import FIRST_LOAD, Segmenter
from fcn_trt.spec import Check

if TYPE_CHECKING:
    from fcn_trt.pipeline.plan import Checking, ImagesBar

__all__ = ["check_bundle"]


def check_bundle(bundle: Bundle, *, name: str, checking: Checking, bar: ImagesBar) -> Check:
    """Hold a new engine against the reference in its own ONNX.

    Raises:
        AgreementError: it labels otherwise.
        EngineError: it cannot be loaded.
    """
    reference = bundle.network.reference() if checking.is_on else None
    spec = bundle.manifest.spec
    if reference is None:
        return unchecked("build", spec, checking)
    if obstacle(bundle) is not None:
        return Check(step="build", reason=FIRST_LOAD)
    with (
        bar(f"checking the engine against {reference.source}", len(reference.frames)) as on_image,
        Segmenter.load(bundle.path) as segmenter,
    ):
        return check(
            "build",
            reference,
            counted(segmenter.segment, on_image),
            name=name,
            precision=spec.precision,
            accept=checking.accept,
        )
