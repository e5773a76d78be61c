// AVX-512: 64 bytes. Included by avx512.cpp (byte shuffles within quarters) and avx512vnni.cpp (HASTEN_MADDNESS_VBMI: any
// byte of 64, and sums of four bytes).
#include "../cpu_features.hpp"

#if defined(HASTEN_X86)
#include <immintrin.h>

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
    // Filling the quarters takes a shuffle on some machines: a table of 16 serves as many rows as registers have room for.
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

// Codes of 16 rows.
template <unsigned levels, unsigned level = 0>
INLINE __m512i descend(const float* const* columns, const float* nodes, std::size_t row, __m512i code) {
    if constexpr (level < levels) {
        const float* const at = nodes + ((1u << level) - 1);
        __m512 t;
        if constexpr (level == 0) t = _mm512_set1_ps(*at);
        else if constexpr (level < 5) t = _mm512_permutexvar_ps(code, _mm512_loadu_ps(at));
        else t = _mm512_permutex2var_ps(_mm512_loadu_ps(at), code, _mm512_loadu_ps(at + 16));
        const __mmask16 right = _mm512_cmp_ps_mask(_mm512_loadu_ps(columns[level] + row), t, _CMP_GT_OQ);
        const __m512i twice = _mm512_add_epi32(code, code);
        return descend<levels, level + 1>(columns, nodes, row, _mm512_mask_add_epi32(twice, right, twice, _mm512_set1_epi32(1)));
    } else {
        return code;
    }
}

template <unsigned levels>
void encode_planes(const float* const* columns, const Trees& trees, bool quarters, uint8_t* codes) {
    for (std::size_t c = 0; c < trees.codebooks; ++c, codes += kRows, columns += levels) {
        const float* const nodes = trees.thresholds + c * kNodes;
        const __m512i quarter = _mm512_set1_epi32(quarters ? 0x1010 * static_cast<int>(c % 4) : 0);
        __m512i code[4];
        for (std::size_t k = 0; k < 4; ++k) code[k] = descend<levels>(columns, nodes, 16 * k, _mm512_setzero_si512());
        for (std::size_t k = 0; k < 2; ++k) {  // a row and that half a block further on are neighbours
            const __m512i words = _mm512_or_si512(_mm512_or_si512(code[k], _mm512_slli_epi32(code[k + 2], 8)), quarter);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 32 * k), _mm512_cvtepi32_epi16(words));
        }
    }
}

void encode(const float* const* columns, const Trees& trees, Layout layout, uint8_t* codes) {
#if defined(HASTEN_MADDNESS_VBMI)
    if (layout == Layout::quads) {
        for (std::size_t c = 0; c < trees.codebooks; c += 4, codes += 4 * kRows, columns += 16) {
            const float* const nodes = trees.thresholds + c * kNodes;
            for (std::size_t k = 0; k < 4; ++k) {
                __m512i four = _mm512_set1_epi32(0x30201000);
                for (int j = 0; j < 4; ++j) {
                    const __m512i code = descend<4>(columns + 4 * j, nodes + j * static_cast<int>(kNodes), 16 * k, _mm512_setzero_si512());
                    four = _mm512_add_epi32(four, _mm512_sllv_epi32(code, _mm512_set1_epi32(8 * j)));
                }
                _mm512_storeu_si512(codes + k * kRows, four);
            }
        }
        return;
    }
#endif
    if (trees.levels == 4) return encode_planes<4>(columns, trees, layout == Layout::quarters, codes);
    if (trees.levels == 5) return encode_planes<5>(columns, trees, false, codes);
    return encode_planes<6>(columns, trees, false, codes);
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
            for (; m < range.last; ++m, luts += stride, to += kRows) quad_sums<1>(codes, luts, stride, range.from, range.to, to);
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

// 32 rows of 16 outputs, turned so that the outputs of a row follow each other.
INLINE void finish_32x16(const uint16_t* sums, __m512 scale, __m512 offset, float* out, std::ptrdiff_t row_stride) {
    __m512i a[16], b[16];
    for (std::size_t i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(sums + i * kRows);
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
    // Of a half (8 outputs) and a row r of each quarter: lower and upper 64 bits of a[r / 2] and a[r / 2 + 4].
    for (std::size_t r = 0; r < 8; ++r) {
        const auto half = [&](std::size_t h) {
            const __m512i x = a[8 * h + r / 2], y = a[8 * h + r / 2 + 4];
            return r % 2 ? _mm512_unpackhi_epi64(x, y) : _mm512_unpacklo_epi64(x, y);
        };
        const __m512i left = half(0), right = half(1);
        const __m512i one = _mm512_permutex2var_epi64(left, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), right);
        const __m512i two = _mm512_permutex2var_epi64(left, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), right);
        const __m256i row[4] = {_mm512_castsi512_si256(one), _mm512_extracti64x4_epi64(one, 1),
                                _mm512_castsi512_si256(two), _mm512_extracti64x4_epi64(two, 1)};
        for (std::size_t q = 0; q < 4; ++q) {
            const __m512 x = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(row[q]));
            _mm512_storeu_ps(out + static_cast<std::ptrdiff_t>(8 * q + r) * row_stride, _mm512_add_ps(_mm512_mul_ps(x, scale), offset));
        }
    }
}

void finish(const uint16_t* s, std::size_t rows, std::size_t count, const float* scale, const float* offset, float* out,
            std::ptrdiff_t row_stride, std::ptrdiff_t column_stride) {
    std::size_t m = 0;
    if (column_stride == 1) {
        const std::size_t whole = rows / 32 * 32;
        for (; m + 16 <= count; m += 16) {
            const __m512 a = _mm512_loadu_ps(scale + m), b = _mm512_loadu_ps(offset + m);
            for (std::size_t r = 0; r < whole; r += 32) {
                finish_32x16(s + m * kRows + r, a, b, out + m + static_cast<std::ptrdiff_t>(r) * row_stride, row_stride);
            }
            finish_any(s + m * kRows + whole, rows - whole, 16, scale + m, offset + m,
                       out + m + static_cast<std::ptrdiff_t>(whole) * row_stride, row_stride, column_stride);
        }
    }
    finish_any(s + m * kRows, rows, count - m, scale + m, offset + m,
               out + static_cast<std::ptrdiff_t>(m) * column_stride, row_stride, column_stride);
}

std::size_t shuffles(std::size_t count) { return shuffles_of<Bytes>(count); }

}  // namespace
}  // namespace hasten::maddness
#endif
