"""TensorRT and TensorRT-RTX: one way for all of their releases.

Read in this order: library (what is installed, and what differs), device (what is compiled for),
network (the ONNX as the library sees it), builder (network to plan), progress, timing_cache,
layer_report (what a plan computes in), plan (a plan on the GPU).
"""
