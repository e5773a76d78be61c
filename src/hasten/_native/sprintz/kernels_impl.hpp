// The loops over columns: plain C++, compiled once for each instruction set by kernels_*.cpp, which say what the table is
// called (HASTEN_SPRINTZ_KERNELS) and whose codes it takes (HASTEN_SPRINTZ_CODES), and may choose written-out vectors for
// planar blocks.
#include "bits_impl.hpp"

namespace hasten::sprintz {
namespace {

#include "planar_impl.hpp"
#include "lanes_impl.hpp"
#include "predict_impl.hpp"

template <typename X>
void range(const X* x, std::size_t n, X found[4]) {
    using S = Signed<X>;
    X low = x[0], high = x[0];
    S signed_low = static_cast<S>(x[0]), signed_high = signed_low;
    for (std::size_t i = 0; i < n; ++i) {
        const S s = static_cast<S>(x[i]);
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        signed_low = s < signed_low ? s : signed_low;
        signed_high = s > signed_high ? s : signed_high;
    }
    found[0] = low;
    found[1] = high;
    found[2] = static_cast<X>(signed_low);
    found[3] = static_cast<X>(signed_high);
}

// ---- between columns and lanes

#if defined(HASTEN_X86) && defined(__SSE2__)
// Eight steps of eight lanes, which become eight values of each.
INLINE void turn_8x8(const uint16_t* v, uint16_t base, uint16_t* x, std::size_t stride) {
    const __m128i bases = _mm_set1_epi16(static_cast<int16_t>(base));
    __m128i a[8], b[8];
    for (int i = 0; i < 8; ++i) a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(v) + i);
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm_unpacklo_epi16(a[i], a[i + 1]);
        b[i + 1] = _mm_unpackhi_epi16(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        a[i] = _mm_unpacklo_epi32(b[i], b[i + 2]);
        a[i + 1] = _mm_unpackhi_epi32(b[i], b[i + 2]);
        a[i + 2] = _mm_unpacklo_epi32(b[i + 1], b[i + 3]);
        a[i + 3] = _mm_unpackhi_epi32(b[i + 1], b[i + 3]);
    }
    for (std::size_t i = 0; i < 4; ++i) {
        const __m128i even = _mm_unpacklo_epi64(a[i], a[i + 4]), odd = _mm_unpackhi_epi64(a[i], a[i + 4]);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(x + 2 * i * stride), _mm_add_epi16(even, bases));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(x + (2 * i + 1) * stride), _mm_add_epi16(odd, bases));
    }
}
#define HASTEN_TURNS
#elif defined(HASTEN_SPRINTZ_NEON)
INLINE void turn_8x8(const uint16_t* v, uint16_t base, uint16_t* x, std::size_t stride) {
    const uint16x8_t bases = vdupq_n_u16(base);
    uint16x8_t a[8];
    uint32x4_t b[8];
    for (std::size_t i = 0; i < 8; ++i) a[i] = vld1q_u16(v + 8 * i);
    for (std::size_t i = 0; i < 8; i += 2) {  // pairs of steps, of the even lanes and of the odd ones
        b[i] = vreinterpretq_u32_u16(vtrn1q_u16(a[i], a[i + 1]));
        b[i + 1] = vreinterpretq_u32_u16(vtrn2q_u16(a[i], a[i + 1]));
    }
    for (std::size_t l = 0; l < 4; ++l) {  // lanes l and l + 4
        const std::size_t k = l % 2;
        const bool low = l < 2;
        const uint32x4_t first = low ? vtrn1q_u32(b[k], b[k + 2]) : vtrn2q_u32(b[k], b[k + 2]);
        const uint32x4_t second = low ? vtrn1q_u32(b[k + 4], b[k + 6]) : vtrn2q_u32(b[k + 4], b[k + 6]);
        const uint64x2_t p = vreinterpretq_u64_u32(first), q = vreinterpretq_u64_u32(second);
        vst1q_u16(x + l * stride, vaddq_u16(vreinterpretq_u16_u64(vtrn1q_u64(p, q)), bases));
        vst1q_u16(x + (l + 4) * stride, vaddq_u16(vreinterpretq_u16_u64(vtrn2q_u64(p, q)), bases));
    }
}
#define HASTEN_TURNS
#endif

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
            std::size_t t = 0;
#if defined(HASTEN_TURNS)
            if constexpr (sizeof(X) == 2 && sizeof(T) == 2) {
                for (; t + 8 <= steps; t += 8) turn_8x8(v + t * kLanes, base, x + t, steps);
            }
#endif
            for (; t < steps; ++t) {
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
    &HASTEN_SPRINTZ_CODES,
    Planar<uint8_t>::kernels(),
    Planar<uint16_t>::kernels(),
    Planar<uint32_t>::kernels(),
    Planar<uint64_t>::kernels(),
    {residuals<uint16_t>, values<uint16_t>, products<uint16_t>, largest<uint16_t>},
    {residuals<uint32_t>, values<uint32_t>, products<uint32_t>, largest<uint32_t>},
    {residuals<uint64_t>, values<uint64_t>, products<uint64_t>, largest<uint64_t>},
    {range<uint8_t>},
    {range<uint16_t>},
    {range<uint32_t>},
    {range<uint64_t>},
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
