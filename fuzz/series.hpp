// Columns for seeds: series that take every path of the encoders.
#pragma once

#include <algorithm>
#include <cmath>

#include "fuzz.hpp"

namespace hasten::fuzz {

enum class Series { constant, ramp, walk, wide, smooth, noise, anything, sparse, multiples, few, last = few };
constexpr int kSeries = static_cast<int>(Series::last) + 1;

inline uint64_t masked(uint64_t value, std::size_t itemsize) {
    return itemsize == 8 ? value : value & ((uint64_t{1} << 8 * itemsize) - 1);
}

// `rows` little-endian values of `itemsize` bytes.
inline std::vector<uint64_t> series(Series kind, std::size_t rows, std::size_t itemsize, Random& random) {
    std::vector<uint64_t> values(rows);
    uint64_t x = random.next(), d = 0;
    const uint64_t start = x;
    const std::size_t bits = itemsize == 8 && start % 2 ? 40 : std::min<std::size_t>(5 * itemsize, 20);
    uint64_t palette[24];
    for (uint64_t& value : palette) value = random.below(itemsize == 1 ? 200 : 6000);
    for (std::size_t i = 0; i < rows; ++i) {
        const uint64_t small = random.below(15) - 7;
        switch (kind) {
            case Series::constant: break;
            case Series::ramp: x += 3; break;
            case Series::walk: x += small; break;
            case Series::wide: x += random.below(std::size_t{1} << bits) - (uint64_t{1} << (bits - 1)); break;
            case Series::smooth:
                d += (small % 3) - 1;
                x = static_cast<uint64_t>(static_cast<int64_t>(60 * std::sin(static_cast<double>(i) / 9))) + d;
                break;
            case Series::noise: x = start + random.below(itemsize == 1 ? 40 : 3000); break;
            case Series::anything: x = random.next(); break;
            case Series::sparse: x = random.below(60) ? start : start + random.below(100); break;
            case Series::multiples: x = 7 + 12 * random.below(itemsize == 1 ? 20 : 900); break;
            case Series::few: x = palette[random.below(24)]; break;
        }
        values[i] = masked(x, itemsize);
    }
    return values;
}

inline void append(Bytes& out, uint64_t value, std::size_t bytes) {
    for (std::size_t k = 0; k < bytes; ++k) out.push_back(static_cast<uint8_t>(value >> 8 * k));
}

}  // namespace hasten::fuzz
