"""A checkpoint to a torch module, and what a model costs without one.

Read in this order: architecture, layers, fcn, weights, safe_load, mmseg_config, checkpoint, load.
"""
