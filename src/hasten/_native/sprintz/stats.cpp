#include "stats.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

namespace hasten::sprintz {
namespace {

#if defined(__GNUC__) || defined(__clang__)
#define HASTEN_INLINE inline __attribute__((always_inline))
#else
#define HASTEN_INLINE inline
#endif

constexpr std::size_t kLanes = 256;  // values side by side in the accumulators: they stay in the first-level cache
constexpr std::size_t kTurn = 1 << 15;  // rows after which sums of 8- and 16-bit values leave their 32 bits

// What a lane of integers has seen. 64-bit values are added as two halves, so that nothing overflows.
template <typename T>
struct Lanes {
    using Small = std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>;
    using Sum = std::conditional_t<(sizeof(T) < 4), Small, int64_t>;
    T low[kLanes], high[kLanes];
    Sum sum[kLanes];
    int64_t total[kLanes];
    uint64_t bottom[kLanes];  // of 64-bit values: sum of the low halves; `total` is that of the high ones
};

template <typename T>
HASTEN_INLINE void start(Lanes<T>& lanes, std::size_t width) {
    for (std::size_t i = 0; i < width; ++i) {
        lanes.low[i] = std::numeric_limits<T>::max();
        lanes.high[i] = std::numeric_limits<T>::lowest();
        lanes.sum[i] = 0;
        lanes.total[i] = 0;
        lanes.bottom[i] = 0;
    }
}

template <typename T>
HASTEN_INLINE void add_row(Lanes<T>& lanes, const T* row, std::size_t width) {
    for (std::size_t i = 0; i < width; ++i) {
        lanes.low[i] = row[i] < lanes.low[i] ? row[i] : lanes.low[i];
        lanes.high[i] = row[i] > lanes.high[i] ? row[i] : lanes.high[i];
        if constexpr (sizeof(T) == 8) {
            lanes.bottom[i] += static_cast<uint32_t>(row[i]);
            lanes.total[i] += static_cast<int64_t>(row[i] >> 32);
        } else {
            lanes.sum[i] += row[i];
        }
    }
}

template <typename T>
HASTEN_INLINE void flush(Lanes<T>& lanes, std::size_t width) {
    if constexpr (sizeof(T) < 8) {
        for (std::size_t i = 0; i < width; ++i) {
            lanes.total[i] += lanes.sum[i];
            lanes.sum[i] = 0;
        }
    }
}

template <typename T>
HASTEN_INLINE void put(const Stats& stats, std::size_t column, T low, T high, int64_t total, uint64_t bottom) {
    static_cast<T*>(stats.low)[column] = low;
    static_cast<T*>(stats.high)[column] = high;
    // total * 2^shift + bottom as 128 bits
    constexpr int shift = sizeof(T) == 8 ? 32 : 0;
    const uint64_t low_half = static_cast<uint64_t>(total) << shift;
    const uint64_t sum = low_half + bottom;
    stats.sum_low[column] = sum;
    stats.sum_high[column] = (shift != 0 ? total >> (64 - 32) : (total < 0 ? -1 : 0)) + (sum < low_half ? 1 : 0);
    stats.nulls[column] = 0;
}

// `rows` rows of `columns` values that lie side by side, rows `stride` values apart. A few columns fill the lanes
// several times over if the rows follow each other without a gap.
template <typename T>
HASTEN_INLINE void integers_side_by_side(const T* data, std::size_t rows, std::size_t columns, std::ptrdiff_t stride,
                                         const Stats& stats, std::size_t first) {
    Lanes<T> lanes;
    const bool dense = stride == static_cast<std::ptrdiff_t>(columns);
    const std::size_t times = dense ? std::min(kLanes / columns, rows) : 1;
    const std::size_t width = columns * times;
    start(lanes, width);
    std::size_t row = 0, turns = 0;
    for (; row + times <= rows; row += times) {
        add_row(lanes, data + static_cast<std::ptrdiff_t>(row) * stride, width);
        if (++turns % kTurn == 0) flush(lanes, width);
    }
    if (row < rows) add_row(lanes, data + static_cast<std::ptrdiff_t>(row) * stride, (rows - row) * columns);
    flush(lanes, width);
    for (std::size_t column = 0; column < columns; ++column) {
        T low = lanes.low[column], high = lanes.high[column];
        int64_t total = 0;
        uint64_t bottom = 0;
        for (std::size_t i = column; i < width; i += columns) {
            low = std::min(low, lanes.low[i]);
            high = std::max(high, lanes.high[i]);
            total += lanes.total[i];
            bottom += lanes.bottom[i];
        }
        put(stats, first + column, low, high, total, bottom);
    }
}

// Values that are `stride` apart, a few at a time next to each other.
template <typename T>
HASTEN_INLINE void integers_far_apart(const T* data, std::size_t rows, std::ptrdiff_t stride, const Stats& stats,
                                      std::size_t column) {
    Lanes<T> lanes;
    T gathered[kLanes];
    start(lanes, kLanes);
    std::size_t turns = 0;
    for (std::size_t row = 0; row < rows; row += kLanes) {
        const std::size_t count = std::min(kLanes, rows - row);
        for (std::size_t i = 0; i < count; ++i) gathered[i] = data[static_cast<std::ptrdiff_t>(row + i) * stride];
        add_row(lanes, gathered, count);
        if (++turns % kTurn == 0) flush(lanes, kLanes);
    }
    flush(lanes, kLanes);
    int64_t total = 0;
    uint64_t bottom = 0;
    for (std::size_t i = 0; i < kLanes; ++i) {
        total += lanes.total[i];
        bottom += lanes.bottom[i];
    }
    put(stats, column, *std::min_element(lanes.low, lanes.low + kLanes),
        *std::max_element(lanes.high, lanes.high + kLanes), total, bottom);
}

inline std::size_t half_of(std::size_t rows) {
    std::size_t size = 1;
    while (size < rows) size *= 2;
    return size / 2;
}

// The sum in the format's order: the upper half is added to the lower one, again and again.
template <typename T>
HASTEN_INLINE void floats(const T* data, std::size_t rows, std::ptrdiff_t stride, const Stats& stats,
                          std::size_t column, double* scratch) {
    constexpr T kInfinity = std::numeric_limits<T>::infinity();
    T low = kInfinity, high = -kInfinity;
    uint32_t nulls = 0;
    const std::size_t half = half_of(rows);
    for (std::size_t row = 0; row < rows; ++row) {
        const T value = data[static_cast<std::ptrdiff_t>(row) * stride];
        const bool number = value == value;
        low = value < low ? value : low;
        high = value > high ? value : high;
        nulls += number ? 0 : 1;
        const double term = number ? static_cast<double>(value) : 0.0;
        if (row < half || half == 0) {
            scratch[row] = term;
        } else {
            scratch[row - half] += term;
        }
    }
    for (std::size_t size = half / 2; size > 0; size /= 2) {
        for (std::size_t i = 0; i < size; ++i) scratch[i] += scratch[i + size];
    }
    if (nulls == rows) low = high = 0;
    static_cast<T*>(stats.low)[column] = low + T{0};  // no -0.0
    static_cast<T*>(stats.high)[column] = high + T{0};
    const double sum = std::isnan(scratch[0]) ? std::numeric_limits<double>::quiet_NaN() : scratch[0] + 0.0;
    std::memcpy(&stats.sum_low[column], &sum, 8);
    stats.sum_high[column] = 0;
    stats.nulls[column] = nulls;
}

template <typename T>
HASTEN_INLINE void all_columns(const Block& block, const Stats& stats, double* scratch) {
    const T* data = static_cast<const T*>(block.data);
    if constexpr (std::is_floating_point_v<T>) {
        for (std::size_t j = 0; j < block.columns; ++j) {
            floats(data + static_cast<std::ptrdiff_t>(j) * block.column_stride, block.rows, block.row_stride, stats, j,
                   scratch);
        }
        return;
    } else {
        if (block.column_stride == 1 && block.columns > 1) {
            for (std::size_t j = 0; j < block.columns; j += kLanes) {
                integers_side_by_side(data + j, block.rows, std::min(kLanes, block.columns - j), block.row_stride, stats,
                                      j);
            }
            return;
        }
        for (std::size_t j = 0; j < block.columns; ++j) {
            const T* column = data + static_cast<std::ptrdiff_t>(j) * block.column_stride;
            if (block.row_stride == 1) {
                integers_side_by_side(column, block.rows, 1, 1, stats, j);
            } else {
                integers_far_apart(column, block.rows, block.row_stride, stats, j);
            }
        }
    }
}

HASTEN_INLINE void any_type(const Block& block, const Stats& stats, double* scratch) {
    switch (block.type) {
        case Number::i8: return all_columns<int8_t>(block, stats, scratch);
        case Number::i16: return all_columns<int16_t>(block, stats, scratch);
        case Number::i32: return all_columns<int32_t>(block, stats, scratch);
        case Number::i64: return all_columns<int64_t>(block, stats, scratch);
        case Number::u8: return all_columns<uint8_t>(block, stats, scratch);
        case Number::u16: return all_columns<uint16_t>(block, stats, scratch);
        case Number::u32: return all_columns<uint32_t>(block, stats, scratch);
        case Number::u64: return all_columns<uint64_t>(block, stats, scratch);
        case Number::f32: return all_columns<float>(block, stats, scratch);
        case Number::f64: return all_columns<double>(block, stats, scratch);
    }
}

void stats_scalar(const Block& block, const Stats& stats, double* scratch) { any_type(block, stats, scratch); }

#if defined(HASTEN_X86)
__attribute__((target("avx2"))) void stats_avx2(const Block& block, const Stats& stats, double* scratch) {
    any_type(block, stats, scratch);
}
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) void stats_avx512(const Block& block, const Stats& stats,
                                                                                double* scratch) {
    any_type(block, stats, scratch);
}
#endif

}  // namespace

std::size_t stats_scratch(const Block& block) {
    const bool is_float = block.type == Number::f32 || block.type == Number::f64;
    return is_float ? std::max<std::size_t>(half_of(block.rows), 1) : 0;
}

#if defined(HASTEN_X86)
const Kernel<StatsKernel> column_stats = {stats_scalar, stats_avx2, stats_avx512};
#else
const Kernel<StatsKernel> column_stats = {stats_scalar};  // NEON is part of what the compiler may use anyhow
#endif

}  // namespace hasten::sprintz
