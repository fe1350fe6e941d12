// Logits become a label map of the frame's own size in one pass: bilinear upsampling, argmax, and
// where asked for, the softmax of the winner. The host's reference is fcn_trt/stages/decode.py.
//
// Bytes at 1024x2048 with 21 classes from 128x256: 2.8 MB of float32 (float16 1.4 MB) logits are
// read and 2.1 MB of labels written (confidence: 2.1 MB more): 4.8 MB. Upsampled, the logits would
// be 176 MB; comparing 44 million interpolated values is also what takes time here, not the bytes.
//
// So a thread makes four columns of all rows between two rows of logits: a tile that lies in one
// cell of four logits (or two, where a cell ends between its columns). There, each class is a
// mixture of its four corners, and all classes are mixed alike. A class that wins all four corners
// wins the tile, and nothing is interpolated: so in 93 of 100 cells of the demo's street at this
// size. Elsewhere, only classes whose largest corner is not below the largest smallest corner of a
// class can win: two there. What is interpolated stays in registers, eight rows at a time.
//
// 16 by 4 threads are a block: a warp's 2 by 8 cells are compact, so that few warps meet a border
// between classes, and its stores fill two sectors of 32 bytes in each row.

#include <device.cuh>

constexpr int COLUMNS = 4, ROWS = 8;
constexpr unsigned NO_LABEL = 255;
constexpr float NONE = -INFINITY;

// Target t lies at (factor * t + shift) / divisor of the source: in integers, so that it is exact
// for any size. int holds them up to sides of 16384.
struct Axis {
    int factor, shift, divisor, source, targets;
};

struct Grid {
    Axis down, across;
    int steps;  // from a sample to the one that it is mixed with
};

struct Weights {
    float down[ROWS], across[COLUMNS];
};

// Where the four corners of a cell lie in the plane of a class.
struct Cell {
    size_t a, b, c, d;
};

// Values of one class at the corners, and whether it may win between them.
struct Corners {
    float a, b, c, d;
    bool is_finite;
};

struct Tile {
    float best[ROWS][COLUMNS];
    unsigned label[ROWS][COLUMNS];
};

__device__ __forceinline__ Axis axis_of(int source, int targets, bool align_corners) {
    if (align_corners)
        return {source - 1, 0, max(targets - 1, 1), source, targets};
    return {2 * source, source - targets, 2 * targets, source, targets};
}

// The first target at or behind a sample of the source.
__device__ __forceinline__ int first_target(const Axis& axis, int sample) {
    const int distance = sample * axis.divisor - axis.shift;
    if (distance <= 0) return 0;
    if (axis.factor == 0) return axis.targets;
    return min((distance + axis.factor - 1) / axis.factor, axis.targets);
}

// The sample before a target; -1 for targets before the first sample.
__device__ __forceinline__ int cell_of(const Axis& axis, int target) {
    const int position = axis.factor * target + axis.shift;
    return position < 0 ? -1 : position / axis.divisor;
}

__device__ __forceinline__ float weight_of(const Axis& axis, int target, int cell) {
    const int rest = axis.factor * target + axis.shift - cell * axis.divisor;
    return static_cast<float>(rest) / static_cast<float>(axis.divisor);
}

struct Float32 {
    using Value = float;
    // Differences of larger ones would be infinite.
    static __device__ __forceinline__ float bounded(float value) {
        return fminf(fmaxf(value, -1.7e38f), 1.7e38f);
    }
    static __device__ __forceinline__ float load(const Value* at) { return *at; }
};

struct Float16 {
    using Value = unsigned short;
    static __device__ __forceinline__ float bounded(float value) { return value; }
    static __device__ __forceinline__ float load(const Value* at) { return half_to_float(*at); }
};

template <typename Type>
__device__ __forceinline__ Corners corners_of(const typename Type::Value* plane, const Cell& cell) {
    const float a = Type::load(plane + cell.a), b = Type::load(plane + cell.b),
                c = Type::load(plane + cell.c), d = Type::load(plane + cell.d);
    // 0 unless one of them is NaN or infinite; then it is NaN, which equals nothing.
    const float nothing = fmaf(0.0f, a, fmaf(0.0f, b, fmaf(0.0f, c, 0.0f * d)));
    return {a, b, c, d, nothing == 0.0f};
}

__device__ __forceinline__ void keep_best(float value, bool may_win, unsigned label, float& best,
                                          unsigned& winner) {
    const bool is_better = may_win && value > best;  // never for NaN
    best = is_better ? value : best;
    winner = is_better ? label : winner;
}

// The class that wins all four corners, 0 where no class may win, NO_LABEL + 1 where they differ.
// least becomes what the winner of a pixel in this cell has at least.
template <typename Type>
__device__ __forceinline__ unsigned only_winner(const typename Type::Value* logits, int classes,
                                                size_t plane, const Cell& cell, float& least) {
    float best[4] = {NONE, NONE, NONE, NONE};
    unsigned winner[4] = {};
    least = NONE;
#pragma unroll 4
    for (int index = 0; index < classes; ++index) {
        const Corners v = corners_of<Type>(logits + index * plane, cell);
        keep_best(v.a, v.is_finite, index, best[0], winner[0]);
        keep_best(v.b, v.is_finite, index, best[1], winner[1]);
        keep_best(v.c, v.is_finite, index, best[2], winner[2]);
        keep_best(v.d, v.is_finite, index, best[3], winner[3]);
        const float smallest = fminf(fminf(v.a, v.b), fminf(v.c, v.d));
        least = v.is_finite ? fmaxf(least, smallest) : least;
    }
    const bool is_only =
        winner[0] == winner[1] && winner[0] == winner[2] && winner[0] == winner[3];
    return is_only ? winner[0] : NO_LABEL + 1;
}

// Hands each interpolated value of the tile to use(value, row, column).
template <typename Type, typename Use>
__device__ __forceinline__ void interpolate(const Corners& corners, const Weights& weights,
                                            Use use) {
    const float a = Type::bounded(corners.a), b = Type::bounded(corners.b) - a,
                c = Type::bounded(corners.c), d = Type::bounded(corners.d) - c;
#pragma unroll
    for (int column = 0; column < COLUMNS; ++column) {
        const float top = fmaf(weights.across[column], b, a);
        const float step = fmaf(weights.across[column], d, c) - top;
#pragma unroll
        for (int row = 0; row < ROWS; ++row) use(fmaf(weights.down[row], step, top), row, column);
    }
}

template <typename Type>
__device__ __forceinline__ void find_winners(const typename Type::Value* logits, int classes,
                                             size_t plane, const Cell& cell, float least,
                                             const Weights& weights, Tile& tile) {
    for (int index = 0; index < classes; ++index) {
        const Corners v = corners_of<Type>(logits + index * plane, cell);
        const float largest = fmaxf(fmaxf(v.a, v.b), fmaxf(v.c, v.d));
        if (!v.is_finite || largest < least) continue;
        interpolate<Type>(v, weights, [&](float value, int row, int column) {
            keep_best(value, true, index, tile.best[row][column], tile.label[row][column]);
        });
    }
}

// 255 times the softmax of the best, 0 where there is none.
template <typename Type>
__device__ __forceinline__ void find_confidence(const typename Type::Value* logits, int classes,
                                                size_t plane, const Cell& cell,
                                                const Weights& weights, const Tile& tile,
                                                unsigned (&confidence)[ROWS][COLUMNS]) {
    constexpr float LOG2_E = 1.44269504f;
    float total[ROWS][COLUMNS] = {};
    for (int index = 0; index < classes; ++index) {
        const Corners v = corners_of<Type>(logits + index * plane, cell);
        if (!v.is_finite) continue;
        interpolate<Type>(v, weights, [&](float value, int row, int column) {
            total[row][column] += exp2f((value - tile.best[row][column]) * LOG2_E);
        });
    }
#pragma unroll
    for (int row = 0; row < ROWS; ++row)
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column)
            confidence[row][column] =
                tile.best[row][column] > NONE
                    ? static_cast<unsigned>(rintf(255.0f / total[row][column]))
                    : 0;
}

// Puts the columns that `mask` has into words of four columns a row.
__device__ __forceinline__ void merge(const unsigned (&values)[ROWS][COLUMNS], unsigned mask,
                                      unsigned (&words)[ROWS]) {
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
        const unsigned word = values[row][0] | values[row][1] << 8 | values[row][2] << 16 |
                              values[row][3] << 24;
        words[row] = (words[row] & ~mask) | (word & mask);
    }
}

template <typename Type, bool with_confidence>
__device__ __forceinline__ void decode_cell(const typename Type::Value* logits, int classes,
                                            size_t plane, const Cell& cell, const Weights& weights,
                                            unsigned mask, unsigned unknown_below,
                                            unsigned (&labels)[ROWS], unsigned (&sure)[ROWS]) {
    float least = NONE;
    if (!with_confidence) {
        const unsigned only = only_winner<Type>(logits, classes, plane, cell, least);
        if (only <= NO_LABEL) {
#pragma unroll
            for (int row = 0; row < ROWS; ++row)
                labels[row] = (labels[row] & ~mask) | (only * 0x01010101u & mask);
            return;
        }
    }
    Tile tile;
#pragma unroll
    for (int row = 0; row < ROWS; ++row)
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column)
            tile.best[row][column] = NONE, tile.label[row][column] = 0;
    find_winners<Type>(logits, classes, plane, cell, least, weights, tile);
    if (with_confidence) {
        unsigned confidence[ROWS][COLUMNS];
        find_confidence<Type>(logits, classes, plane, cell, weights, tile, confidence);
#pragma unroll
        for (int row = 0; row < ROWS; ++row)
#pragma unroll
            for (int column = 0; column < COLUMNS; ++column)
                if (confidence[row][column] < unknown_below) tile.label[row][column] = NO_LABEL;
        merge(confidence, mask, sure);
    }
    merge(tile.label, mask, labels);
}

// Bytes of one word for each row, as far as the frame goes.
__device__ __forceinline__ void store_rows(unsigned char* map, int width, int y, int x, int rows,
                                           const unsigned (&words)[ROWS]) {
    const bool is_aligned = width % COLUMNS == 0 && reinterpret_cast<size_t>(map) % COLUMNS == 0;
    unsigned char* at = map + static_cast<size_t>(y) * width + x;
#pragma unroll
    for (int row = 0; row < ROWS; ++row, at += width) {
        if (row >= rows) return;
        if (is_aligned) {
            store_vector<unsigned>(at, words[row]);
            continue;
        }
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column)
            if (column < width - x) at[column] = words[row] >> 8 * column & 255;
    }
}

// Rows y to y + rows of four columns, all between the same two rows of logits.
template <typename Type, bool with_confidence>
__device__ __forceinline__ void decode_rows(const typename Type::Value* logits, int classes,
                                            const Grid& grid, int upper, int y, int x, int rows,
                                            unsigned char* label_map, unsigned char* confidence,
                                            unsigned unknown_below) {
    const Axis &down = grid.down, &across = grid.across;
    const int last_row = down.source - 1, last_column = across.source - 1;
    const size_t plane = static_cast<size_t>(down.source) * across.source;
    // Beyond the first and the last sample, that one stands twice.
    const size_t top = static_cast<size_t>(max(upper, 0)) * across.source;
    const size_t bottom =
        static_cast<size_t>(min(upper + grid.steps, last_row)) * across.source;
    Weights weights;
#pragma unroll
    for (int row = 0; row < ROWS; ++row) weights.down[row] = weight_of(down, y + row, upper);
    unsigned labels[ROWS] = {}, sure[ROWS] = {};
    int column = 0;
    while (column < COLUMNS && x + column < across.targets) {
        const int cell = cell_of(across, x + column);
        const int left = max(cell, 0), right = min(cell + grid.steps, last_column);
        const int end = min(first_target(across, cell + 1) - x, COLUMNS);
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) weights.across[i] = weight_of(across, x + i, cell);
        const unsigned mask = (end < COLUMNS ? (1u << 8 * end) - 1 : ~0u) & ~0u << 8 * column;
        decode_cell<Type, with_confidence>(logits, classes, plane,
                                           {top + left, top + right, bottom + left, bottom + right},
                                           weights, mask, unknown_below, labels, sure);
        column = end;
    }
    store_rows(label_map, across.targets, y, x, rows, labels);
    if (with_confidence && confidence)
        store_rows(confidence, across.targets, y, x, rows, sure);
}

template <typename Type, bool with_confidence>
__device__ __forceinline__ void decode(const typename Type::Value* logits, int classes,
                                       int source_height, int source_width,
                                       unsigned char* label_map, int height, int width,
                                       int align_corners, unsigned char* confidence,
                                       unsigned unknown_below) {
    const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * COLUMNS;
    const int upper = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y) - 1;
    if (x >= width || upper >= source_height) return;
    // As in OpenCV, what keeps its size is not interpolated: NaN does not spread to neighbours.
    const bool is_copy = source_height == height && source_width == width && !align_corners;
    const Grid grid = {axis_of(source_height, height, align_corners),
                       axis_of(source_width, width, align_corners), is_copy ? 0 : 1};
    const int end = first_target(grid.down, upper + 1);
    for (int y = first_target(grid.down, upper); y < end; y += ROWS)
        decode_rows<Type, with_confidence>(logits, classes, grid, upper, y, x, min(ROWS, end - y),
                                           label_map, confidence, unknown_below);
}

// The grid covers a quarter of the width, and one row more than the logits have: that above them.
extern "C" __global__ void decode_float32(const float* logits, int classes, int source_height,
                                          int source_width, unsigned char* label_map, int height,
                                          int width, int align_corners) {
    decode<Float32, false>(logits, classes, source_height, source_width, label_map, height, width,
                           align_corners, nullptr, 0);
}

extern "C" __global__ void decode_float16(const unsigned short* logits, int classes,
                                          int source_height, int source_width,
                                          unsigned char* label_map, int height, int width,
                                          int align_corners) {
    decode<Float16, false>(logits, classes, source_height, source_width, label_map, height, width,
                           align_corners, nullptr, 0);
}

// These two are kernels of their own as they need twice the registers. confidence may be null.
extern "C" __global__ void decode_confidence_float32(const float* logits, int classes,
                                                     int source_height, int source_width,
                                                     unsigned char* label_map, int height,
                                                     int width, int align_corners,
                                                     unsigned char* confidence,
                                                     unsigned unknown_below) {
    decode<Float32, true>(logits, classes, source_height, source_width, label_map, height, width,
                          align_corners, confidence, unknown_below);
}

extern "C" __global__ void decode_confidence_float16(const unsigned short* logits, int classes,
                                                     int source_height, int source_width,
                                                     unsigned char* label_map, int height,
                                                     int width, int align_corners,
                                                     unsigned char* confidence,
                                                     unsigned unknown_below) {
    decode<Float16, true>(logits, classes, source_height, source_width, label_map, height, width,
                          align_corners, confidence, unknown_below);
}
