"""FP32 ONNX to typed ONNX: the graph itself says what computes in which type.

Read in this order: request, type_network, half, fp16_range, quantize, qdq.
"""
