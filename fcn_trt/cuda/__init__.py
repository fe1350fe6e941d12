"""Device memory, streams, graphs and kernels: the only importer of PyCUDA and cuda-bindings.

PyCUDA owns the context, memory, streams, events and modules. It has no graphs and compiles with
nvcc, so graph capture and NVRTC come from cuda-bindings, on PyCUDA's handles. `kernels/` holds the
CUDA sources; each is tested against the stage of the same name.
"""
