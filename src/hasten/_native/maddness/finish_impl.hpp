// Floats of sums: a product and a sum, rounded separately. A template over a tile T (avx2.cpp, avx512.hpp, neon.cpp):
//   T::kRows, T::kOutputs; T(scale, offset) of these outputs;
//   turn(sums, out, row_stride): the sums of an output follow each other, the floats of a row are to do so.
#pragma once

#include "inline.hpp"
#include "kernels.hpp"

namespace hasten::maddness {
namespace {

// Any rows and outputs; a compiler makes vectors of this where rows or outputs follow each other.
INLINE void finish_any(const uint16_t* sums, std::size_t rows, std::size_t count, const float* scale,
                       const float* offset, float* out, std::ptrdiff_t row_stride, std::ptrdiff_t column_stride) {
    for (std::size_t m = 0; m < count; ++m, sums += kRows, out += column_stride) {
        const float a = scale[m], b = offset[m];
        if (row_stride == 1) {
            for (std::size_t r = 0; r < rows; ++r) out[r] = static_cast<float>(sums[r]) * a + b;
        } else {
            float* at = out;
            for (std::size_t r = 0; r < rows; ++r, at += row_stride) *at = static_cast<float>(sums[r]) * a + b;
        }
    }
}

template <typename T>
void finish_tiles(const uint16_t* sums, std::size_t rows, std::size_t count, const float* scale, const float* offset,
                  float* out, std::ptrdiff_t row_stride, std::ptrdiff_t column_stride) {
    std::size_t m = 0;
    if (column_stride == 1) {
        const std::size_t whole = rows / T::kRows * T::kRows;
        for (; m + T::kOutputs <= count; m += T::kOutputs) {
            const T tile(scale + m, offset + m);
            for (std::size_t r = 0; r < whole; r += T::kRows) {
                tile.turn(sums + m * kRows + r, out + m + static_cast<std::ptrdiff_t>(r) * row_stride, row_stride);
            }
            finish_any(sums + m * kRows + whole, rows - whole, T::kOutputs, scale + m, offset + m,
                       out + m + static_cast<std::ptrdiff_t>(whole) * row_stride, row_stride, column_stride);
        }
    }
    finish_any(sums + m * kRows, rows, count - m, scale + m, offset + m,
               out + static_cast<std::ptrdiff_t>(m) * column_stride, row_stride, column_stride);
}

}  // namespace
}  // namespace hasten::maddness
