import logging

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
