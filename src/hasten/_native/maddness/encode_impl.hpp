// Codes from columns of floats, a template over a vector of rows V (avx2.cpp, avx512.hpp, neon.cpp):
//   V::kRows; V::Codes, of so many rows; V::zero;
//   V::deeper<level>(values, nodes, codes), which is 2 * code + (value > the threshold of its node of the level);
//   V::store(four of them, their codebook, bytes): the bytes of the first two and of the others, which are of the rows
//   half a block further on, in turn.
#pragma once

#include "inline.hpp"
#include "kernels.hpp"

namespace hasten::maddness {
namespace {

template <typename V, unsigned levels, unsigned level = 0>
INLINE typename V::Codes descend(const float* const* columns, const float* nodes, std::size_t row,
                                 typename V::Codes codes) {
    if constexpr (level < levels) {
        const auto next = V::template deeper<level>(columns[level] + row, nodes + ((1u << level) - 1), codes);
        return descend<V, levels, level + 1>(columns, nodes, row, next);
    } else {
        return codes;
    }
}

template <typename V, unsigned levels>
void encode_levels(const float* const* columns, const Trees& trees, uint8_t* codes) {
    for (std::size_t c = 0; c < trees.codebooks; ++c, codes += kRows, columns += levels) {
        const float* const nodes = trees.thresholds + c * kNodes;
        for (std::size_t row = 0; row < kRows / 2; row += 2 * V::kRows) {
            typename V::Codes four[4];
            for (std::size_t k = 0; k < 4; ++k) {
                four[k] = descend<V, levels>(columns, nodes, row + k % 2 * V::kRows + k / 2 * kRows / 2, V::zero());
            }
            V::store(four, c, codes + 2 * row);
        }
    }
}

// Into planes.
template <typename V>
void encode_planes(const float* const* columns, const Trees& trees, uint8_t* codes) {
    if (trees.levels == 4) return encode_levels<V, 4>(columns, trees, codes);
    if (trees.levels == 5) return encode_levels<V, 5>(columns, trees, codes);
    return encode_levels<V, 6>(columns, trees, codes);
}

}  // namespace
}  // namespace hasten::maddness
