import subprocess
import sys


def test_architectures_can_be_listed_without_torch():
    code = (
        "import sys; from fcn_trt.model.architecture import ARCHITECTURES; "
        "print(len(ARCHITECTURES), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "23 False\n", done.stderr
