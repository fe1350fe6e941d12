"""Estimates of what a model costs on a device, without the device."""
