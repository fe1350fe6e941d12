// The host's stand-in for fcn_trt/cuda/kernels/device.cuh, found before it by the C++ compiler:
// what CUDA brings without any header, and half precision, as far as the kernels use them. Blocks
// and threads become loops, which is right for kernels that share nothing between threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

using std::max;
using std::min;

struct HostIndex {
    unsigned x, y, z;
};

inline thread_local HostIndex gridDim, blockDim, blockIdx, threadIdx;

struct alignas(4) uchar4 {
    unsigned char x, y, z, w;
};

inline float half_to_float(unsigned short bits) {
    unsigned exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                 : exponent     ? std::ldexp(1024.0f + fraction, int(exponent) - 25)
                                : std::ldexp(float(fraction), -24);
    return bits >> 15 ? -size : size;
}

// Rounds to nearest, ties to even, as cvt.rn.f16.f32 does.
inline unsigned short float_to_half(float value) {
    unsigned short sign = std::signbit(value) ? 0x8000 : 0;
    float size = std::fabs(value);
    if (std::isnan(value)) return 0x7fff;
    if (size >= 65520.0f) return sign | 0x7c00;
    if (size < 0x1p-14f) return sign | static_cast<unsigned short>(std::rint(size * 0x1p24f));
    int exponent;
    std::frexp(size, &exponent);
    auto fraction = static_cast<unsigned>(std::rint(std::ldexp(size, 11 - exponent)));
    return sign | static_cast<unsigned short>((unsigned(exponent + 13) << 10) + fraction);
}

// A GPU stops at an access that is not aligned to its own size; x86 would let it pass.
template <typename Vector>
void check_alignment(const void* address) {
    if (reinterpret_cast<std::uintptr_t>(address) % sizeof(Vector))
        throw std::runtime_error("an access of " + std::to_string(sizeof(Vector)) +
                                 " bytes is not aligned to them");
}

template <typename Vector>
Vector load_vector(const void* address) {
    check_alignment<Vector>(address);
    Vector value;
    std::memcpy(&value, address, sizeof value);
    return value;
}

template <typename Vector>
void store_vector(void* address, Vector value) {
    check_alignment<Vector>(address);
    std::memcpy(address, &value, sizeof value);
}

template <typename... Values, std::size_t... Places>
void host_launch(void (*kernel)(Values...), const unsigned grid[3], const unsigned block[3],
                 void** arguments, std::index_sequence<Places...>) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x)
                for (threadIdx.z = 0; threadIdx.z < block[2]; ++threadIdx.z)
                    for (threadIdx.y = 0; threadIdx.y < block[1]; ++threadIdx.y)
                        for (threadIdx.x = 0; threadIdx.x < block[0]; ++threadIdx.x)
                            kernel(*static_cast<Values*>(arguments[Places])...);
}

template <typename... Values>
const char* host_launch(void (*kernel)(Values...), const unsigned grid[3], const unsigned block[3],
                        void** arguments) {
    static thread_local std::string problem;
    try {
        host_launch(kernel, grid, block, arguments, std::index_sequence_for<Values...>());
        return nullptr;
    } catch (const std::exception& error) {
        problem = error.what();
        return problem.c_str();
    }
}

// host_<kernel>: arguments as cuLaunchKernel takes them; null, or what went wrong.
#define HOST_KERNEL(kernel)                                                                       \
    extern "C" const char* host_##kernel(const unsigned grid[3], const unsigned block[3],         \
                                         void** arguments) {                                      \
        return host_launch(kernel, grid, block, arguments);                                       \
    }
