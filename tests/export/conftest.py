import pytest


def pytest_pycollect_makemodule():
    """Skip this folder, with the reason, where its extra is not installed."""
    pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")


@pytest.fixture
def randomise():
    """Batch-norm statistics and affine terms at random, so that nothing cancels out."""
    import torch

    def apply(module, seed=0):
        torch.manual_seed(seed)
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(layer.running_mean, std=0.1)
                torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)
                torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
                torch.nn.init.normal_(layer.bias, std=0.1)
        return module.eval()

    return apply


@pytest.fixture
def tiny(randomise):
    """An `Fcn` of any model with an eighth of the channels, and so with MMSegmentation's keys."""
    from fcn_trt.export.architecture import architecture
    from fcn_trt.export.fcn import Fcn

    def make(model="fcn_r18-d8", classes=19, *, auxiliary=False):
        return randomise(Fcn(architecture(model), classes, base_width=8, auxiliary=auxiliary))

    return make


@pytest.fixture
def saved(tmp_path):
    """Write a checkpoint with torch.save; returns it as weights whose hash is no published one."""
    import torch

    from fcn_trt.export.weights import WeightsFile
    from fcn_trt.files import sha256

    def save(content, name="last.pth"):
        path = tmp_path / name
        torch.save(content, path)
        return WeightsFile(path=path, sha256=sha256(path), published=None)

    return save
