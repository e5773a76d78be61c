// Minimum, maximum, sum and number of NaN of each column of a block of rows, as the index of a tsz file has them
// (docs/formats.md). One pass for integers, two for floats; the same numbers from every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../dispatch.hpp"

namespace hasten::sprintz {

enum class Number { i8, i16, i32, i64, u8, u16, u32, u64, f32, f64 };

struct Block {
    const void* data;
    Number type;
    std::size_t rows, columns;                 // rows > 0
    std::ptrdiff_t row_stride, column_stride;  // in values
};

// One of these for each column. A column without any number has a minimum and a maximum of 0.
struct Stats {
    void *low, *high;     // of the block's type
    uint64_t* sum_low;    // a double's bits, or the low half of a signed integer of 128 bits
    int64_t* sum_high;    // the high half; 0 for floats
    uint32_t* nulls;
};

// `scratch` holds `stats_scratch(block)` doubles.
std::size_t stats_scratch(const Block& block);
using StatsKernel = void (*)(const Block& block, const Stats& stats, double* scratch);
extern const Kernel<StatsKernel> column_stats;

}  // namespace hasten::sprintz
