"""A checkpoint to a torch module, and what a model costs without one.

Read in this order: architecture, layers, fcn, weights, stored_tensor, inert_pickle, archive,
torch_file, safetensors_file, file_format, wrapping, checkpoint_meta, safe_load, relatives,
mmseg_config, mmseg_model, identify, checkpoint_labels, checkpoint, load.
"""
