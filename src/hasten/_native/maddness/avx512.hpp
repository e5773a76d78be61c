// AVX-512: 64 bytes. Included by avx512.cpp (byte shuffles within quarters) and avx512vnni.cpp (HASTEN_MADDNESS_VBMI:
// any byte of 64, and sums of four bytes).
#include "../cpu_features.hpp"

#if defined(HASTEN_X86)
#include <immintrin.h>

#include "encode_impl.hpp"
#include "finish_impl.hpp"
#include "planes_impl.hpp"

namespace hasten::maddness {
namespace {

struct Bytes {
    static constexpr std::size_t kBytes = 64;
    __m512i x;

    INLINE void hold() {
#if defined(__GNUC__)
        asm volatile("" : "+v"(x));
#endif
    }
    INLINE static Bytes zero() { return {_mm512_setzero_si512()}; }
    INLINE static Bytes load(const uint8_t* from) { return {_mm512_loadu_si512(from)}; }
    INLINE static void store_words(__m512i first, __m512i second, uint16_t* to) {
        _mm512_storeu_si512(to, first);
        _mm512_storeu_si512(to + kRows / 2, second);
    }
    INLINE static void store_sums(Bytes all, Bytes odd, uint16_t* to) {
        store_words(_mm512_sub_epi16(all.x, _mm512_slli_epi16(odd.x, 8)), odd.x, to);
    }
    INLINE static void store_bytes(Bytes bytes, uint16_t* to) {
        store_words(_mm512_and_si512(bytes.x, _mm512_set1_epi16(255)), _mm512_srli_epi16(bytes.x, 8), to);
    }
    INLINE static __m512i four_times(const uint8_t* sixteen) {
        return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen)));
    }
    // Filling the quarters takes a shuffle on some machines: a table of 16 serves all rows that fit in registers.
    template <std::size_t leaves>
    struct Table {
        static constexpr std::size_t kLeaves = leaves, kServes = 1, kOutputs = 1, kLanes = 6;
#if defined(HASTEN_MADDNESS_VBMI)
        __m512i all;

        INLINE static Table load(const uint8_t* from) {
            if constexpr (leaves == 16) return {four_times(from)};
            else if constexpr (leaves == 64) return {_mm512_loadu_si512(from)};
            else return {_mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
        }
        INLINE Bytes lookup(Bytes codes) const {
            if constexpr (leaves == 16) return {_mm512_shuffle_epi8(all, codes.x)};
            else return {_mm512_permutexvar_epi8(codes.x, all)};
        }
#else
        __m512i sixteen[leaves / 16];

        INLINE static Table load(const uint8_t* from) {
            Table table;
            for (std::size_t k = 0; k < leaves / 16; ++k) table.sixteen[k] = four_times(from + 16 * k);
            return table;
        }
        INLINE Bytes lookup(Bytes codes) const {
            __m512i found = _mm512_shuffle_epi8(sixteen[0], codes.x);
            if constexpr (leaves > 16) {
                const __mmask64 bit4 = _mm512_test_epi8_mask(codes.x, _mm512_set1_epi8(16));
                found = _mm512_mask_shuffle_epi8(found, bit4, sixteen[1], codes.x);
                if constexpr (leaves > 32) {
                    const __mmask64 bit5 = _mm512_test_epi8_mask(codes.x, _mm512_set1_epi8(32));
                    found = _mm512_mask_shuffle_epi8(found, bit5 & ~bit4, sixteen[2], codes.x);
                    found = _mm512_mask_shuffle_epi8(found, bit5 & bit4, sixteen[3], codes.x);
                }
            }
            return {found};
        }
#endif
    };
#if defined(HASTEN_MADDNESS_VBMI)
    // Four tables of 16; a code says by two more bits which is its own.
    struct Quarters {
        static constexpr std::size_t kLeaves = 16, kServes = 4, kOutputs = 2, kLanes = 2;
        __m512i all;

        INLINE static Quarters load(const uint8_t* from) { return {_mm512_loadu_si512(from)}; }
        INLINE Bytes lookup(Bytes codes) const { return {_mm512_permutexvar_epi8(codes.x, all)}; }
    };
#endif
};

INLINE Bytes average(Bytes a, Bytes b) { return {_mm512_avg_epu8(a.x, b.x)}; }
INLINE Bytes add16(Bytes a, Bytes b) { return {_mm512_add_epi16(a.x, b.x)}; }
INLINE Bytes high(Bytes a) { return {_mm512_srli_epi16(a.x, 8)}; }

struct Rows {
    static constexpr std::size_t kRows = 16;
    using Codes = __m512i;

    INLINE static Codes zero() { return _mm512_setzero_si512(); }
    template <unsigned level>
    INLINE static Codes deeper(const float* values, const float* nodes, Codes codes) {
        const __mmask16 right = _mm512_cmp_ps_mask(_mm512_loadu_ps(values), threshold<level>(nodes, codes), _CMP_GT_OQ);
        const __m512i twice = _mm512_add_epi32(codes, codes);
        return _mm512_mask_add_epi32(twice, right, twice, _mm512_set1_epi32(1));
    }
    template <unsigned level>
    INLINE static __m512 threshold(const float* nodes, Codes codes) {
        if constexpr (level == 0) return _mm512_set1_ps(*nodes);
        else if constexpr (level < 5) return _mm512_permutexvar_ps(codes, _mm512_loadu_ps(nodes));
        else return _mm512_permutex2var_ps(_mm512_loadu_ps(nodes), codes, _mm512_loadu_ps(nodes + 16));
    }
    INLINE static __m512i words(const Codes (&four)[4], int k) {
        return _mm512_or_si512(four[k], _mm512_slli_epi32(four[k + 2], 8));
    }
    INLINE static void store_words(__m512i first, __m512i second, uint8_t* to) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(first));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to) + 1, _mm512_cvtepi32_epi16(second));
    }
    INLINE static void store(const Codes (&four)[4], std::size_t, uint8_t* to) {
        store_words(words(four, 0), words(four, 1), to);
    }
};

#if defined(HASTEN_MADDNESS_VBMI)
struct QuarterRows : Rows {
    INLINE static void store(const Codes (&four)[4], std::size_t c, uint8_t* to) {
        const __m512i quarter = _mm512_set1_epi32(0x1010 * static_cast<int>(c % 4));
        store_words(_mm512_or_si512(words(four, 0), quarter), _mm512_or_si512(words(four, 1), quarter), to);
    }
};

void encode_quads(const float* const* columns, const Trees& trees, uint8_t* codes) {
    for (std::size_t c = 0; c < trees.codebooks; c += 4, codes += 4 * kRows, columns += 16) {
        const float* const nodes = trees.thresholds + c * kNodes;
        for (std::size_t row = 0; row < kRows; row += Rows::kRows) {
            __m512i four = _mm512_set1_epi32(0x30201000);
            for (int j = 0; j < 4; ++j) {
                const float* const tree = nodes + j * static_cast<int>(kNodes);
                const __m512i code = descend<Rows, 4>(columns + 4 * j, tree, row, Rows::zero());
                four = _mm512_add_epi32(four, _mm512_sllv_epi32(code, _mm512_set1_epi32(8 * j)));
            }
            _mm512_storeu_si512(codes + 4 * row, four);
        }
    }
}
#endif

void encode(const float* const* columns, const Trees& trees, Layout layout, uint8_t* codes) {
#if defined(HASTEN_MADDNESS_VBMI)
    if (layout == Layout::quads) return encode_quads(columns, trees, codes);
    if (layout == Layout::quarters) return encode_levels<QuarterRows, 4>(columns, trees, codes);
#else
    static_cast<void>(layout);
#endif
    encode_planes<Rows>(columns, trees, codes);
}

#if defined(HASTEN_MADDNESS_VBMI)
template <std::size_t outputs>
INLINE void quad_sums(const uint8_t* codes, const uint8_t* luts, std::size_t stride, std::size_t from, std::size_t to,
                      uint16_t* sums) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i total[outputs][4];
    for (auto& rows : total) {
        for (__m512i& sixteen : rows) sixteen = _mm512_setzero_si512();
    }
#if defined(__GNUC__)
#pragma GCC unroll 4
#endif
    for (std::size_t c = from; c < to; c += 4) {
        __m512i x[4];
        for (std::size_t k = 0; k < 4; ++k) x[k] = _mm512_loadu_si512(codes + c * kRows + k * kRows);
        for (std::size_t m = 0; m < outputs; ++m) {
            const __m512i table = _mm512_loadu_si512(luts + m * stride + 16 * c);
            for (std::size_t k = 0; k < 4; ++k) {
                total[m][k] = _mm512_dpbusd_epi32(total[m][k], _mm512_permutexvar_epi8(x[k], table), ones);
            }
        }
    }
    for (std::size_t m = 0; m < outputs; ++m) {
        for (std::size_t k = 0; k < 4; k += 2) {  // sums are below 2^16: the lower halves of two registers
            const __m512i words = _mm512_permutex2var_epi16(total[m][k], _mm512_set_epi16(
                62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32,
                30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0), total[m][k + 1]);
            _mm512_storeu_si512(sums + m * kRows + 16 * k, words);
        }
    }
}
#endif

void sums(const uint8_t* codes, std::size_t blocks, Layout layout, const Tables& tables, const Range& range,
          uint16_t* result) {
#if defined(HASTEN_MADDNESS_VBMI)
    if (layout == Layout::quads) {
        const std::size_t stride = 16 * tables.codebooks;
        for (; blocks > 0; --blocks, codes += kRows * tables.codebooks, result += kTile * kRows) {
            const uint8_t* luts = tables.luts + range.first * stride;
            uint16_t* to = result;
            std::size_t m = range.first;
            for (; m + 4 <= range.last; m += 4, luts += 4 * stride, to += 4 * kRows) {
                quad_sums<4>(codes, luts, stride, range.from, range.to, to);
            }
            for (; m < range.last; ++m, luts += stride, to += kRows) {
                quad_sums<1>(codes, luts, stride, range.from, range.to, to);
            }
        }
        return;
    }
    if (layout == Layout::quarters && tables.group >= 4) {
        return plane_groups<Bytes, Bytes::Quarters>(codes, blocks, tables, range, result);
    }
#else
    static_cast<void>(layout);
#endif
    sums_of_planes<Bytes>(codes, blocks, tables, range, result);
}

// 32 rows of 16 outputs.
struct Tile {
    static constexpr std::size_t kRows = 32, kOutputs = 16;
    __m512 scale, offset;

    INLINE Tile(const float* scales, const float* offsets)
        : scale(_mm512_loadu_ps(scales)), offset(_mm512_loadu_ps(offsets)) {}
    INLINE void put(__m256i sums, float* out) const {
        const __m512 x = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums));
        _mm512_storeu_ps(out, _mm512_add_ps(_mm512_mul_ps(x, scale), offset));
    }
    INLINE void turn(const uint16_t* sums, float* out, std::ptrdiff_t row_stride) const {
        __m512i a[16], b[16];
        for (std::size_t i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(sums + i * maddness::kRows);
        for (std::size_t i = 0; i < 16; i += 2) {
            b[i] = _mm512_unpacklo_epi16(a[i], a[i + 1]);
            b[i + 1] = _mm512_unpackhi_epi16(a[i], a[i + 1]);
        }
        for (std::size_t i = 0; i < 16; i += 4) {
            for (std::size_t k = 0; k < 2; ++k) {
                a[i + 2 * k] = _mm512_unpacklo_epi32(b[i + k], b[i + k + 2]);
                a[i + 2 * k + 1] = _mm512_unpackhi_epi32(b[i + k], b[i + k + 2]);
            }
        }
        for (std::size_t r = 0; r < 8; ++r, out += row_stride) put_quarters(a, r, out, 8 * row_stride);
    }
    // Row r of each quarter; of a half (8 outputs) it is the lower or upper 64 bits of a[r / 2] and a[r / 2 + 4].
    INLINE void put_quarters(const __m512i (&a)[16], std::size_t r, float* out, std::ptrdiff_t stride) const {
        const auto half = [&](std::size_t h) {
            const __m512i x = a[8 * h + r / 2], y = a[8 * h + r / 2 + 4];
            return r % 2 ? _mm512_unpackhi_epi64(x, y) : _mm512_unpacklo_epi64(x, y);
        };
        const __m512i left = half(0), right = half(1);
        const __m512i one = _mm512_permutex2var_epi64(left, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), right);
        const __m512i two = _mm512_permutex2var_epi64(left, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), right);
        put(_mm512_castsi512_si256(one), out);
        put(_mm512_extracti64x4_epi64(one, 1), out + stride);
        put(_mm512_castsi512_si256(two), out + 2 * stride);
        put(_mm512_extracti64x4_epi64(two, 1), out + 3 * stride);
    }
};

void finish(const uint16_t* s, std::size_t rows, std::size_t count, const float* scale, const float* offset, float* out,
            std::ptrdiff_t row_stride, std::ptrdiff_t column_stride) {
    finish_tiles<Tile>(s, rows, count, scale, offset, out, row_stride, column_stride);
}

std::size_t shuffles(std::size_t count) { return shuffles_of<Bytes>(count); }

}  // namespace
}  // namespace hasten::maddness
#endif
