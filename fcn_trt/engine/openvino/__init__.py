"""OpenVINO on the CPU.

Read in this order: builder, transpose, zero_points, network_cost, matrix_product.
"""
