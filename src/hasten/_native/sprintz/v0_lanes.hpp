// Elements, and words that hold eight or four of them side by side.
#pragma once

#include <limits>
#include <type_traits>

#include "v0_bytes.hpp"

namespace hasten::sprintz::v0 {

constexpr std::size_t kRows = 8;

template <typename T>
using Signed = std::make_signed_t<T>;
template <typename T>
using Counter = std::conditional_t<sizeof(T) == 1, int16_t, int32_t>;

template <typename T>
constexpr unsigned kBits = 8 * sizeof(T);
template <typename T>
constexpr unsigned kFieldBits = sizeof(T) == 1 ? 3 : 4;

template <typename T>
constexpr bool is_narrow(std::size_t columns) {
    return columns * sizeof(T) <= 4;
}

template <typename T>
inline T zigzag(T error) {
    return static_cast<T>(error << 1 ^ (0 - (error >> (kBits<T> - 1))));
}

template <typename T>
inline T unzigzag(T coded) {
    return static_cast<T>(coded >> 1 ^ (0 - (coded & 1)));
}

// ---- lanes: 8 or 4 values in a 64-bit word, the first in the lowest bits

template <typename T>
constexpr unsigned kLanes = 64 / kBits<T>;

// `value` in the lowest bits of each of 64 / `apart` fields.
constexpr uint64_t repeated(uint64_t value, unsigned apart) {
    for (; apart < 64; apart *= 2) value |= value << apart;
    return value;
}

// Within each field of 2 * half lanes, the upper half of the values moves to the upper half of the field.
template <typename T, unsigned half>
inline uint64_t parted(uint64_t packed, unsigned width) {
    constexpr uint64_t fields = repeated(1, 2 * half * kBits<T>);
    const uint64_t low = ((uint64_t{1} << half * width) - 1) * fields;
    return (packed & low) | (packed & ~low) << half * (kBits<T> - width);
}

// Values of `width` bits each, side by side, move to lanes of their own.
template <typename T>
inline uint64_t spread(uint64_t packed, unsigned width) {
    if (width < kBits<T>) packed &= (uint64_t{1} << kLanes<T> * width) - 1;
    if (kLanes<T> == 8) packed = parted<T, kLanes<T> / 2>(packed, width);
    return parted<T, 1>(parted<T, 2>(packed, width), width);
}

template <typename T>
inline uint64_t unzigzag_lanes(uint64_t coded) {
    constexpr uint64_t ones = repeated(1, kBits<T>), all = std::numeric_limits<T>::max();
    return (coded >> 1 & repeated(all >> 1, kBits<T>)) ^ (coded & ones) * all;
}

// Each lane becomes the sum of `before` and of the lanes up to it. A product adds pairs of lanes up, in lanes of twice
// the bits, where no sum runs over: these are the odd lanes; an even one lacks its neighbour.
template <typename T>
inline uint64_t sum_lanes(uint64_t lanes, T before) {
    constexpr unsigned bits = kBits<T>;
    constexpr uint64_t even = repeated(std::numeric_limits<T>::max(), 2 * bits), ones = repeated(1, 2 * bits);
    const uint64_t odd = lanes >> bits & even;
    const uint64_t sums = ((lanes & even) + odd + before) * ones;
    return (sums & even) << bits | ((sums - odd) & even);
}

template <typename T>
inline void put_lanes(uint64_t lanes, T* out, std::size_t stride) {
    if (stride == 1 && !kBigEndian) {
        std::memcpy(out, &lanes, sizeof lanes);
    } else {
        for (unsigned i = 0; i < kLanes<T>; ++i) out[i * stride] = static_cast<T>(lanes >> i * kBits<T>);
    }
}

template <typename T>
inline void put_word(uint32_t lanes, T* out) {
    if (!kBigEndian) {
        std::memcpy(out, &lanes, sizeof lanes);
    } else {
        for (unsigned i = 0; i < kLanes<T> / 2; ++i) out[i] = static_cast<T>(lanes >> i * kBits<T>);
    }
}

// ---- widths, in bytes

// The widths that eight fields say, in lanes of a byte: a field of w - 1 says w.
template <typename T>
inline uint64_t widths_of(uint64_t fields) {
    const uint64_t lanes = spread<uint8_t>(fields, kFieldBits<T>), pairs = lanes & lanes >> 1;
    return lanes + (pairs & (sizeof(T) == 1 ? lanes >> 2 : pairs >> 2) & repeated(1, 8));
}

// Is there a lane, of a byte below 128, that has this value?
inline bool has_lane(uint64_t lanes, uint64_t value) {
    const uint64_t apart = lanes ^ value * repeated(1, 8);
    return ((apart - repeated(1, 8)) & ~apart & repeated(128, 8)) != 0;
}

// The sum of eight bytes of at most 31.
inline std::size_t sum_bytes(uint64_t lanes) { return lanes * repeated(1, 8) >> 56; }

// May read 7 bytes more.
inline std::size_t sum_bytes(const uint8_t* at, std::size_t count) {
    std::size_t sum = 0;
    for (std::size_t done = 0; done < count; done += 8) {
        uint64_t word = load<uint64_t>(at + done);
        if (count - done < 8) word &= (uint64_t{1} << 8 * (count - done)) - 1;
        sum += sum_bytes(word);
    }
    return sum;
}

}  // namespace hasten::sprintz::v0
