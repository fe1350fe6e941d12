"""The whole main job with nothing but this package, and the network that it does it with."""
