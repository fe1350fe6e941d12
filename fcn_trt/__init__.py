"""FCN semantic segmentation on live video: checkpoint, typed ONNX, engine bundle, label maps.

Importing this package loads neither torch, onnx, openvino, tensorrt nor pycuda; each is imported
by the function that needs it.
"""

__version__ = "0.1.0"
