// A frame becomes the network's input in one pass: resize, BGR | BGRx | NV12 to RGB, normalise,
// NCHW, cast. The host's reference is fcn_trt/stages/preprocess.py.
//
// Bytes from 1080p to 512x1024: 6.2 MB of BGR (NV12 3.1 MB, BGRx 8.3 MB) are read, as two of every
// 1.9 rows and columns are needed, and 6.3 MB of float32 (float16 3.1 MB) are written: 12.5 MB.
//
// A thread makes one pixel of all three planes, so that a warp writes 128 (float16: 64) bytes
// without a gap to each. Its twelve byte loads span 180 bytes of two rows, which is two cache lines
// each; with two or four neighbours a thread they would span that many more, and the cache, not the
// memory, would be what takes the time.
//
// The resize is cv2.resize's INTER_LINEAR for uint8, bit for bit (compared with OpenCV 4.10 and
// 5.0): weights of 11 bits, 4 bits cut off between the directions, rounded to whole grey levels,
// which is what published checkpoints were evaluated with.

#include <frame.cuh>

constexpr int UNIT = 1 << 11;

struct Taps {
    int first, second, first_weight, second_weight;
};

// The two samples that a target lies between, and their weights.
//
// OpenCV rounds the position to float32 before it takes the fraction; a quotient of two integers
// that float32 holds exactly is rounded in the same way. Larger ones, from about 16 million, go
// through double.
__device__ __forceinline__ Taps taps(int target, int source_length, int target_length) {
    const int numerator = (2 * target + 1) * source_length - target_length;
    const int denominator = 2 * target_length;
    const float position = numerator < 1 << 24
                               ? static_cast<float>(numerator) / static_cast<float>(denominator)
                               : static_cast<float>(static_cast<double>(numerator) / denominator);
    const float below = floorf(position);
    const int last = source_length - 1;
    const int first = static_cast<int>(below);
    const float weight = position - below;
    const int first_weight = static_cast<int>(rintf((1.0f - weight) * UNIT));
    const int second_weight = static_cast<int>(rintf(weight * UNIT));
    // Beyond an edge, the edge's sample stands twice; its weights sum up to UNIT.
    return {max(first, 0), min(first + 1, last), first_weight, second_weight};
}

__device__ __forceinline__ int blend(int a, int b, int c, int d, const Taps& across,
                                     const Taps& down) {
    const int top = a * across.first_weight + b * across.second_weight;
    const int bottom = c * across.first_weight + d * across.second_weight;
    const int upper = down.first_weight * (top >> 4) >> 16;
    const int lower = down.second_weight * (bottom >> 4) >> 16;
    return min((upper + lower + 2) >> 2, 255);
}

__device__ __forceinline__ Pixel resized_pixel(const Frame& frame, const Taps& down,
                                               const Taps& across) {
    const Pixel a = read_pixel(frame, down.first, across.first);
    const Pixel b = read_pixel(frame, down.first, across.second);
    const Pixel c = read_pixel(frame, down.second, across.first);
    const Pixel d = read_pixel(frame, down.second, across.second);
    return {blend(a.blue, b.blue, c.blue, d.blue, across, down),
            blend(a.green, b.green, c.green, d.green, across, down),
            blend(a.red, b.red, c.red, d.red, across, down)};
}

__device__ __forceinline__ void store(float value, float* at) { *at = value; }

__device__ __forceinline__ void store(float value, unsigned short* at) {
    *at = float_to_half(value);
}

// scale is 1 / std and offset mean / std, each in R, G, B.
template <typename Value>
__device__ __forceinline__ void preprocess(const Frame& frame, Value* tensor, int height, int width,
                                           const float (&scale)[3], const float (&offset)[3]) {
    const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    const int y = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
    if (x >= width || y >= height) return;
    const bool is_resized = frame.height != height || frame.width != width;
    const Pixel pixel = is_resized ? resized_pixel(frame, taps(y, frame.height, height),
                                                   taps(x, frame.width, width))
                                   : read_pixel(frame, y, x);
    const size_t plane = static_cast<size_t>(height) * width;
    Value* at = tensor + static_cast<size_t>(y) * width + x;
    store(pixel.red * scale[0] - offset[0], at);
    store(pixel.green * scale[1] - offset[1], at + plane);
    store(pixel.blue * scale[2] - offset[2], at + 2 * plane);
}

extern "C" __global__ void preprocess_float32(const unsigned char* frame, int frame_height,
                                              int frame_width, int pitch, int layout, float* tensor,
                                              int height, int width, float scale_red,
                                              float scale_green, float scale_blue, float offset_red,
                                              float offset_green, float offset_blue) {
    preprocess<float>({frame, frame_height, frame_width, pitch, layout}, tensor, height, width,
                      {scale_red, scale_green, scale_blue},
                      {offset_red, offset_green, offset_blue});
}

extern "C" __global__ void preprocess_float16(const unsigned char* frame, int frame_height,
                                              int frame_width, int pitch, int layout,
                                              unsigned short* tensor, int height, int width,
                                              float scale_red, float scale_green, float scale_blue,
                                              float offset_red, float offset_green,
                                              float offset_blue) {
    preprocess<unsigned short>({frame, frame_height, frame_width, pitch, layout}, tensor, height,
                               width, {scale_red, scale_green, scale_blue},
                               {offset_red, offset_green, offset_blue});
}
