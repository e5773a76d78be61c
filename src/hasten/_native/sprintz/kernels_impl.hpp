// The loops themselves: plain C++, compiled once for each instruction set by kernels_*.cpp, which say what the table is
// called (HASTEN_SPRINTZ_KERNELS) and may choose written-out vectors for planar blocks. All names are local to the file,
// and nothing of the standard library's code is instantiated: the linker would keep one copy for all machines.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels.hpp"

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

#include "planar_impl.hpp"
#include "predict_impl.hpp"
#include "rice_impl.hpp"
#include "tokens_impl.hpp"

// ---- between columns and lanes

template <typename X, typename T>
struct Move {
    static void into_lanes(const X* x, std::size_t n, X base, T* v) {
        const std::size_t steps = (n + kLanes - 1) / kLanes;
        const std::size_t full = n / steps, rest = n - full * steps;  // lanes that are full; values of the next one
        if (full == kLanes) {
            for (std::size_t t = 0; t < steps; ++t) {
                for (std::size_t l = 0; l < kLanes; ++l) v[t * kLanes + l] = static_cast<T>(x[l * steps + t] - base);
            }
            return;
        }
        for (std::size_t l = 0; l < kLanes; ++l) {
            const std::size_t known = l < full ? steps : l == full ? rest : 0;
            const T last = static_cast<T>(x[n - 1] - base);  // what is not there repeats the last value
            for (std::size_t t = 0; t < steps; ++t) {
                v[t * kLanes + l] = t < known ? static_cast<T>(x[l * steps + t] - base) : last;
            }
        }
    }
    static void from_lanes(const T* v, std::size_t n, X base, X* x) {
        const std::size_t steps = (n + kLanes - 1) / kLanes;
        const std::size_t full = n / steps, rest = n - full * steps;
        if (full == kLanes) {
            for (std::size_t t = 0; t < steps; ++t) {
                for (std::size_t l = 0; l < kLanes; ++l) x[l * steps + t] = static_cast<X>(v[t * kLanes + l] + base);
            }
            return;
        }
        for (std::size_t l = 0; l <= full; ++l) {
            const std::size_t known = l < full ? steps : rest;
            for (std::size_t t = 0; t < known; ++t) x[l * steps + t] = static_cast<X>(v[t * kLanes + l] + base);
        }
    }
    static constexpr MoveKernels<X, T> kernels() { return {into_lanes, from_lanes}; }
};

// ---- between columns

template <typename T, bool minus>
void cross(const T* x, const T* const* references, const int16_t* coefficients, std::size_t count, std::size_t n, T* y) {
    using Wide = typename WideOf<T>::type;
    const T* const a = references[0];
    const T* const b = references[count - 1];
    const Wide p = coefficients[0], q = count > 1 ? coefficients[1] : 0;
    for (std::size_t i = 0; i < n; ++i) {
        const UnsignedOf<Wide> sum = static_cast<UnsignedOf<Wide>>(p) * static_cast<UnsignedOf<Wide>>(Wide{static_cast<Signed<T>>(a[i])})
            + static_cast<UnsignedOf<Wide>>(q) * static_cast<UnsignedOf<Wide>>(Wide{static_cast<Signed<T>>(b[i])}) + 2048u;
        const T part = static_cast<T>(static_cast<Wide>(sum) >> 12);
        y[i] = static_cast<T>(minus ? x[i] - part : x[i] + part);
    }
}

}  // namespace

extern const Kernels HASTEN_SPRINTZ_KERNELS;
const Kernels HASTEN_SPRINTZ_KERNELS = {
    Planar<uint8_t>::kernels(),
    Planar<uint16_t>::kernels(),
    Planar<uint32_t>::kernels(),
    Planar<uint64_t>::kernels(),
    lane_kernels<uint16_t>(),
    lane_kernels<uint32_t>(),
    lane_kernels<uint64_t>(),
    Move<uint8_t, uint16_t>::kernels(),
    Move<uint16_t, uint16_t>::kernels(),
    Move<uint32_t, uint16_t>::kernels(),
    Move<uint32_t, uint32_t>::kernels(),
    Move<uint64_t, uint16_t>::kernels(),
    Move<uint64_t, uint32_t>::kernels(),
    Move<uint64_t, uint64_t>::kernels(),
    cross<uint16_t, true>,
    cross<uint16_t, false>,
    cross<uint32_t, true>,
    cross<uint32_t, false>,
};

}  // namespace hasten::sprintz
