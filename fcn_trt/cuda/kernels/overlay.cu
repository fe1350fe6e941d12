// A label map is painted onto its frame, or alone. The host's reference is
// fcn_trt/stages/overlay.py.
//
// Bytes at 1080p: 6.2 MB of BGR (NV12 3.1 MB, BGRx 8.3 MB) and 2.1 MB of labels are read, and
// 6.2 MB of BGR are written: 14.5 MB. Alone: 8.3 MB.
//
// A thread paints four neighbours of a row: one word of labels, and three words of BGR in and out,
// so that a warp covers 384 bytes of the view without a gap. A single pixel's three bytes would be
// stored one by one. The palette is 1 KB and stays in the first-level cache.

#include <frame.cuh>

constexpr int COLUMNS = 4;

__device__ __forceinline__ unsigned mixed(int pixel, int colour, float frame_share,
                                          float colour_share) {
    const float value = rintf(pixel * frame_share + colour * colour_share);
    return static_cast<unsigned>(to_byte(static_cast<int>(value)));
}

__device__ __forceinline__ unsigned word_of(uchar4 bytes) {
    return bytes.x | bytes.y << 8 | bytes.z << 16 | static_cast<unsigned>(bytes.w) << 24;
}

__device__ __forceinline__ Pixel pixel_of(unsigned word) {
    return {static_cast<int>(word & 255), static_cast<int>(word >> 8 & 255),
            static_cast<int>(word >> 16 & 255)};
}

// Four pixels, each in the lower three bytes of a word; every address is a multiple of 4.
__device__ __forceinline__ void load_bgr4(const unsigned char* at, Pixel (&pixels)[COLUMNS]) {
    const unsigned a = load_vector<unsigned>(at), b = load_vector<unsigned>(at + 4),
                   c = load_vector<unsigned>(at + 8);
    pixels[0] = pixel_of(a);
    pixels[1] = pixel_of(a >> 24 | b << 8);
    pixels[2] = pixel_of(b >> 16 | c << 16);
    pixels[3] = pixel_of(c >> 8);
}

__device__ __forceinline__ void store_bgr4(unsigned char* at, const unsigned (&painted)[COLUMNS]) {
    store_vector<unsigned>(at, painted[0] | painted[1] << 24);
    store_vector<unsigned>(at + 4, painted[1] >> 8 | painted[2] << 16);
    store_vector<unsigned>(at + 8, painted[2] >> 16 | painted[3] << 8);
}

__device__ __forceinline__ bool is_aligned(const void* first, int pitch) {
    return (reinterpret_cast<size_t>(first) | static_cast<unsigned>(pitch)) % 4 == 0;
}

__device__ __forceinline__ void load_pixels(const Frame& frame, int y, int x, int count,
                                            Pixel (&pixels)[COLUMNS]) {
    if (frame.layout == LAYOUT_BGR && count == COLUMNS && is_aligned(frame.bytes, frame.pitch)) {
        load_bgr4(frame.bytes + static_cast<size_t>(y) * frame.pitch + x * 3, pixels);
        return;
    }
    for (int i = 0; i < count; ++i) pixels[i] = read_pixel(frame, y, x + i);
}

// A null frame: the colours alone. palette has 256 times B, G, R and a byte that nothing reads.
// Labels and view have no gaps between rows.
extern "C" __global__ void overlay_bgr(const unsigned char* frame, int pitch, int layout,
                                       const unsigned char* labels, const unsigned char* palette,
                                       unsigned char* view, int height, int width,
                                       float frame_share, float colour_share) {
    const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * COLUMNS;
    const int y = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
    if (x >= width || y >= height) return;
    const int count = min(COLUMNS, width - x);
    const size_t first = static_cast<size_t>(y) * width + x;
    unsigned char label[COLUMNS] = {};
    if (is_aligned(labels, width)) {  // then no row ends within a word
        const uchar4 four = load_vector<uchar4>(labels + first);
        label[0] = four.x, label[1] = four.y, label[2] = four.z, label[3] = four.w;
    } else {
        for (int i = 0; i < count; ++i) label[i] = labels[first + i];
    }
    Pixel pixels[COLUMNS] = {};
    if (frame) load_pixels({frame, height, width, pitch, layout}, y, x, count, pixels);
    unsigned painted[COLUMNS];
    for (int i = 0; i < COLUMNS; ++i) {
        painted[i] = word_of(load_vector<uchar4>(palette + 4 * label[i])) & 0xffffff;
        if (!frame) continue;
        const Pixel colour = pixel_of(painted[i]);
        painted[i] = mixed(pixels[i].blue, colour.blue, frame_share, colour_share) |
                     mixed(pixels[i].green, colour.green, frame_share, colour_share) << 8 |
                     mixed(pixels[i].red, colour.red, frame_share, colour_share) << 16;
    }
    unsigned char* at = view + first * 3;
    if (is_aligned(view, 3 * width)) {
        store_bgr4(at, painted);
        return;
    }
    for (int i = 0; i < count; ++i) {
        at[3 * i] = painted[i] & 255;
        at[3 * i + 1] = painted[i] >> 8 & 255;
        at[3 * i + 2] = painted[i] >> 16;
    }
}
