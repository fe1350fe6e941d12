"""The host implementation of each step around the network, as pure functions.

The CPU backend runs these, calibration and evaluation use them, and the CUDA kernels of the same
names are tested against them.
"""
