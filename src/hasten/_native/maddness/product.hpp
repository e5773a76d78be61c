// Approximate products of whole arrays: where columns come from, in which order blocks are taken, and threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels.hpp"

namespace hasten::maddness {

enum class Type : int { float32, bfloat16, int8, uint8 };

struct Matrix {
    const void* data;
    Type type;
    std::size_t rows, columns;
    std::ptrdiff_t row_stride, column_stride;  // in elements
};

// Patches of images in the layout NCHW: a row of the product is a place of the filter, a column a channel and a place
// in the filter (channel first). What is beside an image is 0.
struct Patches {
    const void* data;
    Type type;
    std::size_t images, channels, height, width;
    std::ptrdiff_t image_stride, channel_stride, line_stride, pixel_stride;  // in elements
    std::size_t filter[2], stride[2], padding[2], dilation[2], places[2];    // down, across
    std::size_t rows() const { return images * places[0] * places[1]; }
    std::size_t columns() const { return channels * filter[0] * filter[1]; }
};

struct Output {  // of row r: data[r / rows * image_stride + r % rows * row_stride + m * column_stride]
    float* data;
    std::ptrdiff_t row_stride, column_stride;
    std::size_t rows = std::numeric_limits<std::size_t>::max();  // of an image
    std::ptrdiff_t image_stride = 0;
    float* at(std::size_t row) const {
        const auto image = static_cast<std::ptrdiff_t>(row / rows), place = static_cast<std::ptrdiff_t>(row % rows);
        return data + image * image_stride + place * row_stride;
    }
};

inline std::size_t code_bytes(std::size_t rows, std::size_t codebooks) {
    return (rows + kRows - 1) / kRows * kRows * codebooks;
}

// codes: code_bytes(rows, codebooks) bytes.
void encode(const Matrix& x, const Trees& trees, Layout layout, uint8_t* codes, Isa isa, std::size_t threads);
void encode(const Patches& x, const Trees& trees, Layout layout, uint8_t* codes, Isa isa, std::size_t threads);
void scan(const uint8_t* codes, Layout layout, std::size_t rows, const Tables& tables, const Output& out, Isa isa,
          std::size_t threads);
// A scan that makes no floats; returns the bytes it looked up.
std::size_t sums_only(const uint8_t* codes, Layout layout, std::size_t rows, const Tables& tables, Isa isa);
// Both, a few blocks at a time: codes never leave the cache.
void multiply(const Matrix& x, const Trees& trees, Layout layout, const Tables& tables, const Output& out, Isa isa,
              std::size_t threads);
void multiply(const Patches& x, const Trees& trees, Layout layout, const Tables& tables, const Output& out, Isa isa,
              std::size_t threads);

}  // namespace hasten::maddness
