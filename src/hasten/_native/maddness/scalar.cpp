// Any machine: plain loops over the rows of a block, of which a compiler makes vectors if it likes.
#include <cstring>

#include "finish_impl.hpp"

namespace hasten::maddness {
namespace {

void encode(const float* const* columns, const Trees& trees, Layout, uint8_t* codes) {
    for (std::size_t c = 0; c < trees.codebooks; ++c, codes += kRows, columns += trees.levels) {
        const float* const thresholds = trees.thresholds + c * kNodes;
        for (std::size_t r = 0; r < kRows; ++r) {
            unsigned node = 0;
            for (unsigned l = 0; l < trees.levels; ++l) node = 2 * node + 1 + (columns[l][r] > thresholds[node]);
            codes[place_of(r)] = static_cast<uint8_t>(node - ((1u << trees.levels) - 1));
        }
    }
}

// As a shuffle, never behind the table, whatever a code is.
void look_up(const uint8_t* codes, const uint8_t* table, std::size_t leaves, uint8_t* result) {
    for (std::size_t r = 0; r < kRows; ++r) result[r] = table[codes[r] & (leaves - 1)];
}

// The average of `group` codebooks: neighbours first.
void averages(const uint8_t* codes, const uint8_t* luts, std::size_t leaves, std::size_t group, uint8_t* result) {
    if (group == 1) return look_up(codes, luts, leaves, result);
    const std::size_t half = group / 2;
    uint8_t right[kRows];
    averages(codes, luts, leaves, half, result);
    averages(codes + half * kRows, luts + half * leaves, leaves, half, right);
    for (std::size_t r = 0; r < kRows; ++r) result[r] = static_cast<uint8_t>((result[r] + right[r] + 1) >> 1);
}

void sums(const uint8_t* codes, std::size_t blocks, Layout, const Tables& tables, const Range& range,
          uint16_t* result) {
    const std::size_t group = tables.group ? tables.group : 1, leaves = tables.leaves;
    for (; blocks > 0; --blocks, codes += kRows * tables.codebooks, result += kTile * kRows) {
        for (std::size_t m = range.first; m < range.last; ++m) {
            const uint8_t* const luts = tables.luts + m * tables.codebooks * leaves;
            uint16_t total[kRows] = {};
            for (std::size_t c = range.from; c < range.to; c += group) {
                uint8_t bytes[kRows];
                averages(codes + c * kRows, luts + c * leaves, leaves, group, bytes);
                for (std::size_t r = 0; r < kRows; ++r) total[r] = static_cast<uint16_t>(total[r] + bytes[place_of(r)]);
            }
            std::memcpy(result + (m - range.first) * kRows, total, sizeof total);
        }
    }
}

void finish(const uint16_t* s, std::size_t rows, std::size_t count, const float* scale, const float* offset, float* out,
            std::ptrdiff_t row_stride, std::ptrdiff_t column_stride) {
    finish_any(s, rows, count, scale, offset, out, row_stride, column_stride);
}

std::size_t shuffles(std::size_t count) {
    const uint8_t entries[16] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
    uint8_t codes[kRows] = {};
    for (std::size_t i = 0; i < count; ++i) {
        look_up(codes, entries, 16, codes);
#if defined(__GNUC__)
        asm volatile("" : : "r"(codes) : "memory");  // none is left out
#endif
    }
    return count * kRows;
}

}  // namespace

extern const Kernels kernels_scalar;
const Kernels kernels_scalar = {encode, sums, finish, shuffles};

}  // namespace hasten::maddness
