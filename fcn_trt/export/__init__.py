"""From a checkpoint to a typed ONNX file; needs the `export` extra.

Read in this order: pipeline, checkpoint, architecture, fcn, to_onnx, import_onnx, fp16_range,
half.
"""
