// AVX2: 32 bytes, tables of 16 entries by vpshufb.
#include "../cpu_features.hpp"

#if defined(HASTEN_X86)
#include <immintrin.h>

#include "planes_impl.hpp"

namespace hasten::maddness {
namespace {

struct Bytes {
    static constexpr std::size_t kBytes = 32;
    __m256i x;

    INLINE void hold() {
#if defined(__GNUC__)
        asm volatile("" : "+x"(x));
#endif
    }
    INLINE static Bytes zero() { return {_mm256_setzero_si256()}; }
    INLINE static Bytes load(const uint8_t* from) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))}; }
    INLINE static void store_words(__m256i first, __m256i second, uint16_t* to) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), first);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + kRows / 2), second);
    }
    INLINE static void store_sums(Bytes all, Bytes odd, uint16_t* to) {
        store_words(_mm256_sub_epi16(all.x, _mm256_slli_epi16(odd.x, 8)), odd.x, to);
    }
    INLINE static void store_bytes(Bytes bytes, uint16_t* to) {
        store_words(_mm256_and_si256(bytes.x, _mm256_set1_epi16(255)), _mm256_srli_epi16(bytes.x, 8), to);
    }
    template <std::size_t leaves>
    struct Table {
        static constexpr std::size_t kLeaves = leaves, kServes = 1, kOutputs = 2, kLanes = 2;
        __m256i sixteen[leaves / 16];

        INLINE static Table load(const uint8_t* from) {
            Table table;
            for (std::size_t k = 0; k < leaves / 16; ++k) {
                const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + k);
                table.sixteen[k] = _mm256_broadcastsi128_si256(entries);
            }
            return table;
        }
        INLINE Bytes lookup(Bytes codes) const {
            const auto in = [&](std::size_t k) { return _mm256_shuffle_epi8(sixteen[k], codes.x); };
            if constexpr (leaves == 16) return {in(0)};
            const __m256i bit4 = _mm256_slli_epi16(codes.x, 3), bit5 = _mm256_slli_epi16(codes.x, 2);  // to the sign
            const __m256i low = _mm256_blendv_epi8(in(0), in(leaves == 16 ? 0 : 1), bit4);
            if constexpr (leaves == 32) return {low};
            constexpr std::size_t k = leaves == 64 ? 2 : 0;
            return {_mm256_blendv_epi8(low, _mm256_blendv_epi8(in(k), in(leaves == 64 ? 3 : 0), bit4), bit5)};
        }
    };
};

INLINE Bytes average(Bytes a, Bytes b) { return {_mm256_avg_epu8(a.x, b.x)}; }
INLINE Bytes add16(Bytes a, Bytes b) { return {_mm256_add_epi16(a.x, b.x)}; }
INLINE Bytes high(Bytes a) { return {_mm256_srli_epi16(a.x, 8)}; }

// The thresholds of the nodes of one level, by the code so far.
template <unsigned level>
INLINE __m256 threshold(const float* nodes, __m256i code) {
    const auto eight = [&](std::size_t k) { return _mm256_permutevar8x32_ps(_mm256_loadu_ps(nodes + 8 * k), code); };
    if constexpr (level == 0) return _mm256_broadcast_ss(nodes);
    if constexpr (level <= 3) return eight(0);
    const __m256 bit3 = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28)), bit4 = _mm256_castsi256_ps(_mm256_slli_epi32(code, 27));
    const __m256 low = _mm256_blendv_ps(eight(0), eight(1), bit3);
    if constexpr (level == 4) return low;
    return _mm256_blendv_ps(low, _mm256_blendv_ps(eight(2), eight(3), bit3), bit4);
}

template <unsigned levels, unsigned level = 0>
INLINE __m256i descend(const float* const* columns, const float* nodes, std::size_t row, __m256i code) {
    if constexpr (level < levels) {
        const __m256 x = _mm256_loadu_ps(columns[level] + row), t = threshold<level>(nodes + ((1u << level) - 1), code);
        const __m256i right = _mm256_castps_si256(_mm256_cmp_ps(x, t, _CMP_GT_OQ));  // -1
        return descend<levels, level + 1>(columns, nodes, row, _mm256_sub_epi32(_mm256_add_epi32(code, code), right));
    } else {
        return code;
    }
}

// Words of 8 rows and of those half a block further on.
template <unsigned levels>
INLINE __m256i descend_twice(const float* const* columns, const float* nodes, std::size_t row) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i low = descend<levels>(columns, nodes, row, zero), high = descend<levels>(columns, nodes, row + kRows / 2, zero);
    return _mm256_or_si256(low, _mm256_slli_epi32(high, 8));
}

template <unsigned levels>
void encode_as(const float* const* columns, const Trees& trees, uint8_t* codes) {
    for (std::size_t c = 0; c < trees.codebooks; ++c, codes += kRows, columns += levels) {
        const float* const nodes = trees.thresholds + c * kNodes;
        for (std::size_t row = 0; row < kRows / 2; row += 16) {
            const __m256i first = descend_twice<levels>(columns, nodes, row), second = descend_twice<levels>(columns, nodes, row + 8);
            const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(first, second), 0xd8);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 2 * row), words);
        }
    }
}

void encode(const float* const* columns, const Trees& trees, Layout, uint8_t* codes) {
    if (trees.levels == 4) return encode_as<4>(columns, trees, codes);
    if (trees.levels == 5) return encode_as<5>(columns, trees, codes);
    return encode_as<6>(columns, trees, codes);
}

void sums(const uint8_t* codes, std::size_t blocks, Layout, const Tables& tables, const Range& range, uint16_t* result) {
    sums_of_planes<Bytes>(codes, blocks, tables, range, result);
}

// Eight rows of eight outputs, turned so that the outputs of a row follow each other.
INLINE void finish_8x8(const uint16_t* sums, __m256 scale, __m256 offset, float* out, std::ptrdiff_t row_stride) {
    __m128i a[8], b[8];
    for (std::size_t i = 0; i < 8; ++i) a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sums + i * kRows));
    for (std::size_t i = 0; i < 8; i += 2) {
        b[i] = _mm_unpacklo_epi16(a[i], a[i + 1]);
        b[i + 1] = _mm_unpackhi_epi16(a[i], a[i + 1]);
    }
    for (std::size_t i = 0; i < 8; i += 4) {
        a[i] = _mm_unpacklo_epi32(b[i], b[i + 2]);
        a[i + 1] = _mm_unpackhi_epi32(b[i], b[i + 2]);
        a[i + 2] = _mm_unpacklo_epi32(b[i + 1], b[i + 3]);
        a[i + 3] = _mm_unpackhi_epi32(b[i + 1], b[i + 3]);
    }
    for (std::size_t i = 0; i < 8; ++i) {
        const __m128i row = i % 2 ? _mm_unpackhi_epi64(a[i / 2], a[i / 2 + 4]) : _mm_unpacklo_epi64(a[i / 2], a[i / 2 + 4]);
        const __m256 x = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(row));
        _mm256_storeu_ps(out + static_cast<std::ptrdiff_t>(i) * row_stride, _mm256_add_ps(_mm256_mul_ps(x, scale), offset));
    }
}

void finish(const uint16_t* s, std::size_t rows, std::size_t count, const float* scale, const float* offset, float* out,
            std::ptrdiff_t row_stride, std::ptrdiff_t column_stride) {
    std::size_t m = 0;
    if (column_stride == 1) {
        const std::size_t whole = rows / 8 * 8;
        for (; m + 8 <= count; m += 8) {
            const __m256 a = _mm256_loadu_ps(scale + m), b = _mm256_loadu_ps(offset + m);
            for (std::size_t r = 0; r < whole; r += 8) {
                finish_8x8(s + m * kRows + r, a, b, out + m + static_cast<std::ptrdiff_t>(r) * row_stride, row_stride);
            }
            finish_any(s + m * kRows + whole, rows - whole, 8, scale + m, offset + m,
                       out + m + static_cast<std::ptrdiff_t>(whole) * row_stride, row_stride, column_stride);
        }
    }
    finish_any(s + m * kRows, rows, count - m, scale + m, offset + m,
               out + static_cast<std::ptrdiff_t>(m) * column_stride, row_stride, column_stride);
}

std::size_t shuffles(std::size_t count) { return shuffles_of<Bytes>(count); }

}  // namespace

extern const Kernels kernels_avx2;
const Kernels kernels_avx2 = {encode, sums, finish, shuffles};

}  // namespace hasten::maddness
#endif
