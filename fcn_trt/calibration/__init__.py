"""How large a network's tensors get on images, and the cache that remembers it.

Read in this order: images, tensor_values, histogram, amax, calibrate, state, cache, then table and
imported for TensorRT's own text form.
"""
