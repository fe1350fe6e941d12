"""A checkpoint to a torch module, and what a model costs without one.

Read in this order: architecture, layers, fcn, weights, file_format, wrapping, safe_load, relatives,
mmseg_config, mmseg_model, identify, checkpoint_labels, checkpoint, load.
"""
