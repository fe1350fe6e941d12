"""The ONNX graph: what each of ours keeps, and how a module or a foreign graph becomes one.

Read in this order: contract, to_onnx, import_onnx and what it names, identity.
"""
