// One block of 8 rows: its errors under a predictor, the way back, and how errors are packed.
//
// Narrow rows go column after column, the state in registers. Wide rows go row after row: no column knows of another, so
// that the loops over columns are the compiler's to vectorize. Errors here are always zigzag coded.
#pragma once

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

// ---- FIRE

// Bits w .. 2w - 1 of the product.
template <typename T>
inline T predict(T delta, int32_t coefficient) {
    const auto factor = static_cast<uint32_t>(static_cast<Signed<T>>(delta));
    return static_cast<T>(factor * static_cast<uint32_t>(coefficient) >> kBits<T>);
}

// sign(error) * delta.
template <typename T>
inline T gradient_of(T error, T delta) {
    const T below = static_cast<T>(0 - (error >> (kBits<T> - 1)));
    const T other_than_0 = static_cast<T>(0 - (error != 0));
    return static_cast<T>(((delta ^ below) - below) & other_than_0);
}

// The mean of the four rows that are asked goes into the counter.
template <typename T>
inline Counter<T> learned(Counter<T> counter, T gradient) {
    using Unsigned = std::make_unsigned_t<Counter<T>>;
    return static_cast<Counter<T>>(static_cast<Unsigned>(static_cast<Unsigned>(counter) + (static_cast<Signed<T>>(gradient) >> 2)));
}

template <typename T>
inline int32_t narrow_coefficient(Counter<T> counter) {
    return counter >> 1;
}

// In steps of 1/16, cut to 16 bits: what 16-bit lanes can do.
template <typename T>
inline int16_t wide_coefficient(Counter<T> counter) {
    return static_cast<int16_t>((counter >> (kBits<T> - 3)) * (1 << (kBits<T> - 4)));
}

// ---- widths

// How many bits the errors of a column take that have, together, the bits `any`. There is no width w - 1; and wide rows
// of 16 bits have no width 7, because published encoders never write it.
template <typename T>
inline unsigned width_of(T any, bool narrow) {
    unsigned width = 0;
    for (unsigned step = kBits<T> / 2; step > 0; step /= 2) {
        if (any >> (width + step) != 0) width += step;
    }
    width += any != 0;
    if (width == kBits<T> - 1 || (sizeof(T) == 2 && !narrow && width == 7)) ++width;
    return width;
}

// ---- narrow rows: one column at a time

// The errors of a column, whose values lie `stride` apart; returns the bits that any of them has.
template <typename T, bool fire>
inline T narrow_errors(const T* x, std::size_t stride, T previous, T& last_delta, Counter<T>& counter, T* errors) {
    const int32_t coefficient = narrow_coefficient<T>(counter);
    T before = last_delta, gradient = 0, any = 0;
    for (std::size_t i = 0; i < kRows; ++i) {
        const T value = x[i * stride];
        const T delta = static_cast<T>(value - previous);
        const T error = fire ? static_cast<T>(delta - predict(before, coefficient)) : delta;
        if (fire && i % 2 == 1) gradient = static_cast<T>(gradient + gradient_of(error, before));
        errors[i] = zigzag(error);
        any |= errors[i];
        previous = value;
        before = delta;
    }
    last_delta = before;
    if (fire) counter = learned(counter, gradient);
    return any;
}

template <typename T, bool fire>
inline void narrow_values(const T* errors, T previous, T& last_delta, Counter<T>& counter, T* out, std::size_t stride) {
    const int32_t coefficient = narrow_coefficient<T>(counter);
    T before = last_delta, gradient = 0;
    for (std::size_t i = 0; i < kRows; ++i) {
        const T error = unzigzag(errors[i]);
        const T delta = fire ? static_cast<T>(error + predict(before, coefficient)) : error;
        if (fire && i % 2 == 1) gradient = static_cast<T>(gradient + gradient_of(error, before));
        previous = static_cast<T>(previous + delta);
        out[i * stride] = previous;
        before = delta;
    }
    last_delta = before;
    if (fire) counter = learned(counter, gradient);
}

// 8 errors become `width` bytes. May write 8 bytes more.
inline void narrow_pack(const uint8_t* errors, unsigned width, uint8_t* out) {
    uint64_t word = 0;
    for (unsigned i = 0; i < kRows; ++i) word |= uint64_t{errors[i]} << i * width;
    store(out, word);
}

inline void narrow_pack(const uint16_t* errors, unsigned width, uint8_t* out) {
    uint64_t first = 0, second = 0;
    for (unsigned i = 0; i < 4; ++i) {
        first |= uint64_t{errors[i]} << i * width;
        second |= uint64_t{errors[i + 4]} << i * width;
    }
    const unsigned bits = 4 * width;  // of each half; an odd width (13 at most) ends in the middle of a byte
    if (bits % 8 != 0) second = second << 4 | first >> (bits - 4);
    store(out, first);
    store(out + bits / 8, second);
}

// May read 8 bytes more.
inline void narrow_unpack(const uint8_t* payload, unsigned width, uint8_t* errors) {
    const uint64_t word = load<uint64_t>(payload), mask = (uint64_t{1} << width) - 1;
    for (unsigned i = 0; i < kRows; ++i) errors[i] = static_cast<uint8_t>(word >> i * width & mask);
}

inline void narrow_unpack(const uint8_t* payload, unsigned width, uint16_t* errors) {
    const unsigned bits = 4 * width;
    const uint64_t first = load<uint64_t>(payload), second = load<uint64_t>(payload + bits / 8) >> bits % 8;
    const uint64_t mask = (uint64_t{1} << width) - 1;
    for (unsigned i = 0; i < 4; ++i) {
        errors[i] = static_cast<uint16_t>(first >> i * width & mask);
        errors[i + 4] = static_cast<uint16_t>(second >> i * width & mask);
    }
}

// ---- wide rows: all columns of a row

template <typename T>
inline void delta_errors(const T* __restrict x, const T* __restrict previous, std::size_t columns, T* __restrict errors,
                         T* __restrict any) {
    for (std::size_t c = 0; c < columns; ++c) {
        errors[c] = zigzag(static_cast<T>(x[c] - previous[c]));
        any[c] |= errors[c];
    }
}

template <typename T>
inline void delta_values(const T* __restrict errors, const T* __restrict previous, std::size_t columns,
                         T* __restrict out) {
    for (std::size_t c = 0; c < columns; ++c) out[c] = static_cast<T>(previous[c] + unzigzag(errors[c]));
}

template <typename T, bool asked>
inline void fire_errors(const T* __restrict x, const T* __restrict previous, const int16_t* __restrict coefficient,
                        std::size_t columns, T* __restrict delta, T* __restrict gradient, T* __restrict errors,
                        T* __restrict any) {
    for (std::size_t c = 0; c < columns; ++c) {
        const T before = delta[c];
        delta[c] = static_cast<T>(x[c] - previous[c]);
        const T error = static_cast<T>(delta[c] - predict(before, coefficient[c]));
        if (asked) gradient[c] = static_cast<T>(gradient[c] + gradient_of(error, before));
        errors[c] = zigzag(error);
        any[c] |= errors[c];
    }
}

template <typename T, bool asked>
inline void fire_values(const T* __restrict errors, const T* __restrict previous, const int16_t* __restrict coefficient,
                        std::size_t columns, T* __restrict delta, T* __restrict gradient, T* __restrict out) {
    for (std::size_t c = 0; c < columns; ++c) {
        const T before = delta[c], error = unzigzag(errors[c]);
        if (asked) gradient[c] = static_cast<T>(gradient[c] + gradient_of(error, before));
        delta[c] = static_cast<T>(error + predict(before, coefficient[c]));
        out[c] = static_cast<T>(previous[c] + delta[c]);
    }
}

// 8 rows of `row_bytes` each. May write 8 bytes more.
template <typename T>
inline void wide_pack(const T* errors, const uint8_t* widths, std::size_t columns, std::size_t row_bytes,
                      uint8_t* out) {
    for (std::size_t i = 0; i < kRows; ++i, errors += columns, out += row_bytes) {
        uint64_t word = 0;
        unsigned filled = 0;
        uint8_t* at = out;
        for (std::size_t c = 0; c < columns; ++c) {
            word |= uint64_t{errors[c]} << filled;
            filled += widths[c];
            if (filled >= 32) {
                store(at, static_cast<uint32_t>(word));
                at += 4;
                word >>= 32;
                filled -= 32;
            }
        }
        store(at, static_cast<uint32_t>(word));
    }
}

// May read 8 bytes more.
template <typename T>
inline void wide_unpack(const uint8_t* payload, const uint8_t* widths, std::size_t columns, std::size_t row_bytes,
                        T* errors) {
    std::size_t bit = 0;
    for (std::size_t c = 0; c < columns; ++c) {
        const uint8_t* at = payload + bit / 8;
        const unsigned shift = bit % 8;
        const uint32_t mask = (uint32_t{1} << widths[c]) - 1;
        for (std::size_t i = 0; i < kRows; ++i) {
            errors[i * columns + c] = static_cast<T>(load<uint32_t>(at + i * row_bytes) >> shift & mask);
        }
        bit += widths[c];
    }
}

}  // namespace hasten::sprintz::v0
