// How a pixel is read from a frame, whatever the frame's layout.
#pragma once

#include <device.cuh>

// Values of fcn_trt.cuda.device_stages.LAYOUTS.
constexpr int LAYOUT_BGR = 0, LAYOUT_BGRX = 1, LAYOUT_NV12 = 2;

struct Frame {
    const unsigned char* bytes;
    int height, width, pitch, layout;
};

struct Pixel {
    int blue, green, red;
};

__device__ __forceinline__ int to_byte(int value) { return min(max(value, 0), 255); }

// BT.601, limited range, in the fixed-point numbers of OpenCV's COLOR_YUV2BGR_NV12, so that both
// give the same bytes.
__device__ __forceinline__ Pixel nv12_pixel(const Frame& frame, int y, int x) {
    const unsigned char* luma = frame.bytes + static_cast<size_t>(y) * frame.pitch;
    const unsigned char* chroma =
        frame.bytes + static_cast<size_t>(frame.height + y / 2) * frame.pitch + (x & ~1);
    const int light = max(luma[x] - 16, 0) * 1220542 + (1 << 19);
    const int u = chroma[0] - 128, v = chroma[1] - 128;
    return {to_byte((light + 2116026 * u) >> 20), to_byte((light - 409993 * u - 852492 * v) >> 20),
            to_byte((light + 1673527 * v) >> 20)};
}

__device__ __forceinline__ Pixel read_pixel(const Frame& frame, int y, int x) {
    if (frame.layout == LAYOUT_NV12) return nv12_pixel(frame, y, x);
    const int step = frame.layout == LAYOUT_BGRX ? 4 : 3;
    const unsigned char* at = frame.bytes + static_cast<size_t>(y) * frame.pitch + x * step;
    return {at[0], at[1], at[2]};
}
