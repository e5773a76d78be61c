// The loops of an approximate product: hash the rows, look up and add bytes, turn the sums into floats. One table of
// functions for each instruction set; all give the same bits (matmul/maddness/numpy_kernels.py says which).
//
// Rows come in blocks of 64. A block of codes is
//   planes:   for each codebook the codes of the 64 rows, a byte each, rows r and r + 32 side by side: the even bytes
//             of a vector are neighbouring rows then, and so are the odd ones, and sums of 16 bits need no reordering;
//   quads:    for each 4 codebooks and 16 rows 64 bytes: of each row the 4 codes, plus 0, 16, 32 and 48, so that one
//             table of 64 entries serves all 4 (16 leaves, AVX-512 VBMI: sums of 4 by one multiplication with ones);
//   quarters: planes, plus 0, 16, 32 and 48 in turn from codebook to codebook (16 leaves, AVX-512 VBMI: averages).
#pragma once

#include <cstddef>
#include <cstdint>

#include "../dispatch.hpp"

namespace hasten::maddness {

constexpr std::size_t kRows = 64;        // of a block
constexpr std::size_t kNodes = 80;       // floats of a tree: 2^levels - 1 thresholds in heap order, and room behind
constexpr std::size_t kMaxCodebooks = 256;  // whose bytes a sum of 16 bits holds
constexpr unsigned kMaxLevels = 6;
constexpr std::size_t kTile = 32;        // outputs whose sums stand in the nearest cache together
constexpr std::size_t kTogether = 6;     // blocks that are summed together

enum class Layout : int { planes, quads, quarters };

// Where in a plane the code of a row stands.
constexpr std::size_t place_of(std::size_t row) { return 2 * (row % (kRows / 2)) + row / (kRows / 2); }

struct Trees {
    const int32_t* dims;      // levels for each codebook
    const float* thresholds;  // kNodes for each codebook
    std::size_t codebooks;
    unsigned levels;
};

struct Tables {
    const uint8_t* luts;      // [outputs][codebooks][leaves]
    std::size_t outputs, codebooks, leaves;
    std::size_t group;        // codebooks whose bytes are averaged; 0: all are added
    const float *scale, *offset;  // of each output: float(sum) * scale + offset
};

struct Range {
    std::size_t first, last;  // outputs
    std::size_t from, to;     // codebooks; with groups all of them
};

struct Kernels {
    // A block: columns[c * levels + l] points to 64 values of the column that codebook c looks at on level l.
    void (*encode)(const float* const* columns, const Trees& trees, Layout layout, uint8_t* codes);
    // Sums of blocks of codes: sums[block][kTile][row] of the outputs of a range, at most kTile.
    void (*sums)(const uint8_t* codes, std::size_t blocks, Layout layout, const Tables& tables, const Range& range,
                 uint16_t* sums);
    // out[r * row_stride + m * column_stride] for `rows` rows and `count` outputs, whose scale and offset are given.
    void (*finish)(const uint16_t* sums, std::size_t rows, std::size_t count, const float* scale, const float* offset,
                   float* out, std::ptrdiff_t row_stride, std::ptrdiff_t column_stride);
    // `count` look-ups of this many bytes and nothing else: what no scan can be faster than. Returns bytes looked up.
    std::size_t (*shuffles)(std::size_t count);
};

const Kernels& kernels_for(Isa isa);
// The layout that an instruction set takes fewest steps with.
Layout layout_for(Isa isa, std::size_t leaves, bool exact);

extern const Kernels kernels_scalar;
#if defined(HASTEN_X86)
extern const Kernels kernels_avx2, kernels_avx512, kernels_avx512vnni;
#elif defined(HASTEN_ARM)
extern const Kernels kernels_neon;
#endif

}  // namespace hasten::maddness
