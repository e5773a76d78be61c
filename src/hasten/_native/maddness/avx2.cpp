// AVX2: 32 bytes, tables of 16 entries by vpshufb.
#include "../cpu_features.hpp"

#if defined(HASTEN_X86)
#include <immintrin.h>

#include "encode_impl.hpp"
#include "finish_impl.hpp"
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
    INLINE static Bytes load(const uint8_t* from) {
        return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))};
    }
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

struct Rows {
    static constexpr std::size_t kRows = 8;
    using Codes = __m256i;

    INLINE static Codes zero() { return _mm256_setzero_si256(); }
    template <unsigned level>
    INLINE static Codes deeper(const float* values, const float* nodes, Codes codes) {
        const __m256 right = _mm256_cmp_ps(_mm256_loadu_ps(values), threshold<level>(nodes, codes), _CMP_GT_OQ);
        return _mm256_sub_epi32(_mm256_add_epi32(codes, codes), _mm256_castps_si256(right));  // less -1
    }
    // The thresholds of the nodes of one level, by the code so far.
    template <unsigned level>
    INLINE static __m256 threshold(const float* nodes, Codes codes) {
        const auto eight = [&](int k) { return _mm256_permutevar8x32_ps(_mm256_loadu_ps(nodes + 8 * k), codes); };
        const auto bit = [&](int k) { return _mm256_castsi256_ps(_mm256_slli_epi32(codes, 31 - k)); };  // to the sign
        if constexpr (level == 0) return _mm256_broadcast_ss(nodes);
        if constexpr (level <= 3) return eight(0);
        const __m256 low = _mm256_blendv_ps(eight(0), eight(1), bit(3));
        if constexpr (level == 4) return low;
        return _mm256_blendv_ps(low, _mm256_blendv_ps(eight(2), eight(3), bit(3)), bit(4));
    }
    INLINE static void store(const Codes (&four)[4], std::size_t, uint8_t* to) {
        const auto words = [&](int k) { return _mm256_or_si256(four[k], _mm256_slli_epi32(four[k + 2], 8)); };
        const __m256i in_order = _mm256_permute4x64_epi64(_mm256_packus_epi32(words(0), words(1)), 0xd8);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), in_order);
    }
};

void encode(const float* const* columns, const Trees& trees, Layout, uint8_t* codes) {
    encode_planes<Rows>(columns, trees, codes);
}

void sums(const uint8_t* codes, std::size_t blocks, Layout, const Tables& tables, const Range& range,
          uint16_t* result) {
    sums_of_planes<Bytes>(codes, blocks, tables, range, result);
}

// Eight rows of eight outputs.
struct Tile {
    static constexpr std::size_t kRows = 8, kOutputs = 8;
    __m256 scale, offset;

    INLINE Tile(const float* scales, const float* offsets)
        : scale(_mm256_loadu_ps(scales)), offset(_mm256_loadu_ps(offsets)) {}
    INLINE void put(__m128i sums, float* out) const {
        const __m256 x = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums));
        _mm256_storeu_ps(out, _mm256_add_ps(_mm256_mul_ps(x, scale), offset));
    }
    INLINE void turn(const uint16_t* sums, float* out, std::ptrdiff_t row_stride) const {
        __m128i a[8], b[8];
        for (std::size_t i = 0; i < 8; ++i) {
            a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sums + i * maddness::kRows));
        }
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
        for (std::size_t i = 0; i < 8; ++i, out += row_stride) {
            const __m128i left = a[i / 2], right = a[i / 2 + 4];
            put(i % 2 ? _mm_unpackhi_epi64(left, right) : _mm_unpacklo_epi64(left, right), out);
        }
    }
};

void finish(const uint16_t* s, std::size_t rows, std::size_t count, const float* scale, const float* offset, float* out,
            std::ptrdiff_t row_stride, std::ptrdiff_t column_stride) {
    finish_tiles<Tile>(s, rows, count, scale, offset, out, row_stride, column_stride);
}

std::size_t shuffles(std::size_t count) { return shuffles_of<Bytes>(count); }

}  // namespace

extern const Kernels kernels_avx2;
const Kernels kernels_avx2 = {encode, sums, finish, shuffles};

}  // namespace hasten::maddness
#endif
