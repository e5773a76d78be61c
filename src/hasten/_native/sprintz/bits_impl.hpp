// What all kernels are written with. Each file that includes this has its own copy, compiled for its instruction set: all
// names are local, and nothing of the standard library's code is instantiated, for the linker would keep one copy of
// that for all machines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels.hpp"

#if defined(HASTEN_X86)
#include <immintrin.h>
#elif defined(HASTEN_ARM)
#include <arm_neon.h>
#endif

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#else
#define INLINE inline
#define INLINE_LAMBDA
#endif

namespace hasten::sprintz {
namespace {

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
constexpr bool kReverse = true;
#else
constexpr bool kReverse = false;
#endif

template <typename Word>
INLINE Word turned(Word word) {
    if (!kReverse) return word;
    Word result = 0;
    for (unsigned i = 0; i < sizeof(Word); ++i) result = static_cast<Word>(result << 8 | (word >> 8 * i & 0xFF));
    return result;
}

template <typename Word>
INLINE Word load(const uint8_t* at) {
    Word word;
    std::memcpy(&word, at, sizeof word);
    return turned(word);
}

template <typename Word>
INLINE void store(uint8_t* at, Word word) {
    word = turned(word);
    std::memcpy(at, &word, sizeof word);
}

template <typename T> struct SignedOf;
template <> struct SignedOf<uint8_t> { using type = int8_t; };
template <> struct SignedOf<uint16_t> { using type = int16_t; };
template <> struct SignedOf<uint32_t> { using type = int32_t; };
template <> struct SignedOf<uint64_t> { using type = int64_t; };
template <typename T>
using Signed = typename SignedOf<T>::type;

template <typename T>
INLINE T zigzag(T d) {
    return static_cast<T>(d << 1) ^ static_cast<T>(static_cast<Signed<T>>(d) >> (8 * sizeof(T) - 1));
}

template <typename T>
INLINE T unzigzag(T z) {
    return static_cast<T>(z >> 1) ^ static_cast<T>(0 - (z & 1));
}

// Bits that a number needs.
template <typename T>
INLINE unsigned width(T z) {
#if defined(__GNUC__)
    return z ? 64 - static_cast<unsigned>(__builtin_clzll(z)) : 0;
#else
    unsigned bits = 0;
    for (uint64_t rest = z; rest; rest >>= 1) ++bits;
    return bits;
#endif
}

// The next 57 bits or more; those behind the end are 0.
INLINE uint64_t peek(const Stream& s) {
    const std::size_t byte = s.at / 8, size = (s.bits + 7) / 8;
    if (byte + 8 <= size) return load<uint64_t>(s.data + byte) >> s.at % 8;
    uint64_t word = 0;
    for (std::size_t k = 0; byte + k < size; ++k) word |= uint64_t{s.data[byte + k]} << 8 * k;
    return word >> s.at % 8;
}

INLINE uint64_t low_bits(uint64_t word, unsigned count) { return word & ((uint64_t{1} << count) - 1); }

struct Writer {
    uint8_t* at;
    uint64_t word = 0;
    unsigned filled = 0;  // bits of the word, at most 7 after flush()

    INLINE void put(uint64_t bits, unsigned count) {
        word |= bits << filled;
        filled += count;
    }
    INLINE void flush() {
        store(at, word);
        at += filled / 8;
        word >>= filled & ~7u;
        filled %= 8;
    }
    INLINE void close() {
        flush();
        if (filled) *at++ = static_cast<uint8_t>(word);
    }
};

}  // namespace
}  // namespace hasten::sprintz
