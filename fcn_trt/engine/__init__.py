"""Typed ONNX to engine bundle. No precision argument exists here: the graph says it all."""
