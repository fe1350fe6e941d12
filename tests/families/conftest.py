import logging
import sys
import types
import warnings

import pytest

logger = logging.getLogger(__name__)


def pytest_pycollect_makemodule():
    """Skip this folder, with the reason, where the export extra is not installed."""
    pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")


@pytest.fixture
def randomise():
    """Weights as they stand, batch-norm statistics and affine terms random: nothing cancels out."""
    import torch

    def apply(module, seed=0):
        torch.manual_seed(seed)
        for layer in module.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                torch.nn.init.normal_(layer.running_mean, std=0.1)
                torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)
                torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
                torch.nn.init.normal_(layer.bias, std=0.1)
        return module.eval()

    return apply


@pytest.fixture
def relative_difference(request):
    """max|a - b| / max|a| of theirs and ours; `--log-cli-level=INFO` shows the values."""
    import torch

    def compare(theirs, ours, size):
        torch.manual_seed(1)
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            a, b = theirs(image), ours(image)
        assert a.shape == b.shape
        assert a.isfinite().all()
        assert a.std() > 0
        difference = float((a - b).abs().max() / a.abs().max())
        logger.info("%s at %dx%d differs by %.1e", request.node.name, *size, difference)
        return difference

    return compare


class Anything(types.ModuleType):
    """A module that has every name."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@pytest.fixture(scope="session")
def mmseg():
    """MMSegmentation, its registry filled, with what the tests need of it and of mmengine.

    FCN uses none of mmcv's compiled operators, so mmcv-lite will do and `mmcv.ops` is an empty
    stand-in here (MMSegmentation imports names from it for other models).
    """
    patch = pytest.MonkeyPatch()
    patch.setitem(sys.modules, "mmcv.ops", Anything("mmcv.ops"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mmseg.datasets  # fills the registry
        import mmseg.models  # noqa: F401  # fills the registry
        from mmengine.config import Config
        from mmengine.dataset import Compose
        from mmengine.logging import MessageHub
        from mmengine.model import revert_sync_batchnorm
        from mmengine.optim import OptimWrapper, PolyLR
        from mmengine.registry import init_default_scope
        from mmseg.models import SegTTAModel
        from mmseg.registry import DATASETS, MODELS
    init_default_scope("mmseg")
    yield types.SimpleNamespace(
        Compose=Compose,
        Config=Config,
        MessageHub=MessageHub,
        OptimWrapper=OptimWrapper,
        PolyLR=PolyLR,
        SegTTAModel=SegTTAModel,
        datasets=DATASETS,
        build=lambda cfg: revert_sync_batchnorm(MODELS.build(cfg)),
    )
    patch.undo()
