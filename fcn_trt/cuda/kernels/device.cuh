// What the kernels need of the device beyond plain C++. The tests compile the same kernels for the
// host with a header of this name of their own, so it is included as <device.cuh>.
#pragma once

#ifndef INFINITY  // NVRTC has no <cmath>
#define INFINITY (1.0f / 0.0f)
#endif

// Half precision is handled as bits: cuda_fp16.h is not there where only the driver is.
__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// The address must be a multiple of the vector's size.
template <typename Vector>
__device__ __forceinline__ Vector load_vector(const void* address) {
    return *static_cast<const Vector*>(address);
}

template <typename Vector>
__device__ __forceinline__ void store_vector(void* address, Vector value) {
    *static_cast<Vector*>(address) = value;
}
