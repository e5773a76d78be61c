// One block of 8 rows: its errors under a predictor, the way back, and how errors are packed.
//
// Narrow rows go column after column, the state in registers. Wide rows go row after row: no column knows of another,
// so the loops over columns are the compiler's to vectorize. Errors here are always zigzag coded.
#pragma once

#include "v0_lanes.hpp"

namespace hasten::sprintz::v0 {

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
    const auto mean = static_cast<Unsigned>(static_cast<Signed<T>>(gradient) >> 2);
    return static_cast<Counter<T>>(static_cast<Unsigned>(static_cast<Unsigned>(counter) + mean));
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

// The other way, from lanes; returns the last value.
template <typename T>
inline T narrow_delta_values(const uint64_t* errors, T previous, T* out, std::size_t stride) {
    for (std::size_t word = 0; word < sizeof(T); ++word, out += kLanes<T> * stride) {
        const uint64_t values = sum_lanes<T>(unzigzag_lanes<T>(errors[word]), previous);
        put_lanes(values, out, stride);
        previous = static_cast<T>(values >> (64 - kBits<T>));
    }
    return previous;
}

template <typename T>
inline void narrow_fire_values(const uint64_t* errors, T previous, T& last_delta, Counter<T>& counter, T* out,
                               std::size_t stride) {
    const int32_t coefficient = narrow_coefficient<T>(counter);
    T before = last_delta, gradient = 0;
    for (std::size_t word = 0; word < sizeof(T); ++word) {
        uint64_t lanes = unzigzag_lanes<T>(errors[word]);
        for (std::size_t i = 0; i < kLanes<T>; ++i, lanes >>= kBits<T>, out += stride) {
            const T error = static_cast<T>(lanes);
            if (i % 2 == 1) gradient = static_cast<T>(gradient + gradient_of(error, before));
            before = static_cast<T>(error + predict(before, coefficient));
            previous = static_cast<T>(previous + before);
            *out = previous;
        }
    }
    last_delta = before;
    counter = learned(counter, gradient);
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

// `width` bytes become the lanes of sizeof(T) words. May read 8 bytes more.
template <typename T>
inline void narrow_unpack(const uint8_t* payload, unsigned width, uint64_t* errors) {
    const unsigned bits = kLanes<T> * width;  // of each word; an odd width ends in the middle of a byte
    for (std::size_t word = 0; word < sizeof(T); ++word) {
        errors[word] = spread<T>(load<uint64_t>(payload + word * bits / 8) >> word * bits % 8, width);
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

// Errors are unpacked some columns at a time, whose bits one word holds wherever they begin; so rows of unpacked errors
// are filled up to that number.
template <typename T>
constexpr std::size_t kTogether = 4 / sizeof(T);

template <typename T>
constexpr std::size_t unpacked_row(std::size_t columns) {
    return (columns + kTogether<T> - 1) / kTogether<T> * kTogether<T>;
}

// What is behind the last column fills up the row. May read 8 bytes more, and 3 widths.
template <typename T>
inline void wide_unpack(const uint8_t* payload, const uint8_t* widths, std::size_t columns, std::size_t row_bytes,
                        T* errors) {
    const std::size_t row = unpacked_row<T>(columns);
    std::size_t first_bit = 0;
    for (std::size_t c = 0; c < columns; c += kTogether<T>) {
        uint32_t mask[kTogether<T>], factor[kTogether<T>];  // a column's place in the result, and its way there
        unsigned bits = 0;
        for (unsigned k = 0; k < kTogether<T>; ++k) {
            const unsigned width = widths[c + k];
            mask[k] = ((uint32_t{1} << width) - 1) << k * kBits<T>;
            factor[k] = uint32_t{1} << (k * kBits<T> - bits);
            bits += width;
        }
        const uint8_t* at = payload + first_bit / 8;
        T* out = errors + c;
        for (std::size_t i = 0; i < kRows; ++i, at += row_bytes, out += row) {
            const auto word = static_cast<uint32_t>(load<uint64_t>(at) >> first_bit % 8);
            uint32_t lanes = word & mask[0];
            for (unsigned k = 1; k < kTogether<T>; ++k) lanes |= word * factor[k] & mask[k];
            put_word(lanes, out);
        }
        first_bit += bits;
    }
}

}  // namespace hasten::sprintz::v0
