// AVX2 and FMA: eight lanes. Compiled for them (CMakeLists.txt) and called only where the machine has them.
#include "step.hpp"

#if defined(HASTEN_X86)
#include <immintrin.h>

namespace hasten::flash {
namespace {

struct V {
    using F = __m256;
    using I = __m256i;
    static constexpr int W = 8, N = 8;

    INLINE static F set(float x) { return _mm256_set1_ps(x); }
    INLINE static I seti(int32_t x) { return _mm256_set1_epi32(x); }
    INLINE static F floats(I x) { return _mm256_castsi256_ps(x); }
    INLINE static I bits(F x) { return _mm256_castps_si256(x); }
    INLINE static F load(const float* p) { return _mm256_loadu_ps(p); }
    INLINE static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
    INLINE static void storei(int32_t* p, I x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
    INLINE static F add(F a, F b) { return _mm256_add_ps(a, b); }
    INLINE static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
    INLINE static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
    INLINE static F div(F a, F b) { return _mm256_div_ps(a, b); }
    INLINE static F sqrt(F a) { return _mm256_sqrt_ps(a); }
    INLINE static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
    INLINE static F fms(F a, F b, F c) { return _mm256_fmsub_ps(a, b, c); }
    INLINE static F fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
    INLINE static I addi(I a, I b) { return _mm256_add_epi32(a, b); }
    INLINE static I subi(I a, I b) { return _mm256_sub_epi32(a, b); }
    INLINE static I multiplyi(I a, I b) { return _mm256_mullo_epi32(a, b); }
    INLINE static I andi(I a, I b) { return _mm256_and_si256(a, b); }
    INLINE static I ori(I a, I b) { return _mm256_or_si256(a, b); }
    INLINE static I xori(I a, I b) { return _mm256_xor_si256(a, b); }
    INLINE static I maxu(I a, I b) { return _mm256_max_epu32(a, b); }
    template <int k>
    INLINE static I left(I a) {
        return _mm256_slli_epi32(a, k);
    }
    template <int k>
    INLINE static I right(I a) {
        return _mm256_srli_epi32(a, k);
    }
    INLINE static bool any_above(I a, int32_t limit) { return _mm256_movemask_epi8(_mm256_cmpgt_epi32(a, seti(limit))) != 0; }
    INLINE static F raise(F code, F x, F floor) {
        return _mm256_blendv_ps(code, _mm256_max_ps(code, floor), _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
    }
    INLINE static F sign(F x) {
        const F zero = _mm256_setzero_ps(), one = set(1.0f);
        const F up = _mm256_and_ps(_mm256_cmp_ps(x, zero, _CMP_GT_OQ), one);
        const F down = _mm256_and_ps(_mm256_cmp_ps(x, zero, _CMP_LT_OQ), one);
        return _mm256_blendv_ps(sub(up, down), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    }
    INLINE static I places(int j) { return addi(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), seti(j * W)); }

    INLINE static __m128i half(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
    INLINE static __m128i quarter(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
    INLINE static I whole(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

    INLINE static I if_less(I a, I limit, I then, I other) {
        return _mm256_blendv_epi8(other, then, _mm256_cmpgt_epi32(limit, a));
    }
    INLINE static I load_words(const uint16_t* p) { return _mm256_cvtepu16_epi32(half(p)); }
    INLINE static void store_words(I x, uint16_t* p) {
        const I packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0xD8);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
    }

    INLINE static void load_float(const float* p, F x[N]) {
        for (int j = 0; j < N; ++j) x[j] = load(p + j * W);
    }
    INLINE static void store_float(const F x[N], float* p) {
        for (int j = 0; j < N; ++j) store(p + j * W, x[j]);
    }
    INLINE static void load_low(const uint16_t* p, I x[N]) {
        for (int j = 0; j < N; ++j) x[j] = _mm256_cvtepu16_epi32(half(p + j * W));
    }
    INLINE static void load_high(const uint16_t* p, I x[N]) {
        for (int j = 0; j < N; ++j) x[j] = left<16>(_mm256_cvtepu16_epi32(half(p + j * W)));
    }
    INLINE static void load_byte(const uint8_t* p, I x[N]) {
        for (int j = 0; j < N; ++j) x[j] = _mm256_cvtepu8_epi32(quarter(p + j * W));
    }
    INLINE static void load_joined(const uint16_t* n, const uint8_t* c, I x[N]) {
        load_high(n, x);
        for (int j = 0; j < N; ++j) x[j] = addi(x[j], left<8>(_mm256_cvtepi8_epi32(quarter(c + j * W))));
    }
    INLINE static void load_squares(const uint8_t* p, F x[N]) {
        for (int j = 0; j < N; ++j) {
            const I c = _mm256_cvtepu8_epi32(quarter(p + j * W));
            x[j] = _mm256_cvtepi32_ps(_mm256_mullo_epi16(c, c));
        }
    }
    INLINE static void load_fraction(const int8_t* p, F x[N]) {
        for (int j = 0; j < N; ++j) {
            const F c = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(quarter(p + j * W)));
            x[j] = div(c, sub(set(254.0f), floats(andi(bits(c), seti(0x7FFFFFFF)))));
        }
    }
    // Words out of dwords: packing works within 128 bits, so the quarters are put in order afterwards.
    INLINE static void store_all_words(const I x[N], uint16_t* p) {
        for (int j = 0; j < N; j += 2) {
            const I packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(x[j], x[j + 1]), 0xD8);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + j * W), packed);
        }
    }
    INLINE static void store_high(const I x[N], uint16_t* p) {
        I words[N];
        for (int j = 0; j < N; ++j) words[j] = right<16>(x[j]);
        store_all_words(words, p);
    }
    INLINE static void store_low(const I x[N], uint16_t* p) {
        I words[N];
        for (int j = 0; j < N; ++j) words[j] = andi(x[j], seti(0xFFFF));
        store_all_words(words, p);
    }
    template <int k>
    INLINE static void store_byte(const I x[N], uint8_t* p) {
        I bytes[N];
        for (int j = 0; j < N; ++j) bytes[j] = andi(right<8 * k>(x[j]), seti(0xFF));
        for (int j = 0; j < N; j += 4) {
            const I low = _mm256_packus_epi32(bytes[j], bytes[j + 1]);
            const I high = _mm256_packus_epi32(bytes[j + 2], bytes[j + 3]);
            const I packed = _mm256_packus_epi16(low, high);
            const I order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + j * W), _mm256_permutevar8x32_epi32(packed, order));
        }
    }
    INLINE static bool store_codes(const I x[N], uint8_t* p) {
        store_byte<0>(x, p);
        const I zero = _mm256_setzero_si256();
        const I found = ori(_mm256_cmpeq_epi8(whole(p), zero), _mm256_cmpeq_epi8(whole(p + 32), zero));
        return _mm256_movemask_epi8(found) != 0;
    }
    INLINE static bool store_split(const I x[N], uint16_t* n, uint8_t* c) {
        I up[N], special = _mm256_setzero_si256();
        const I exponent = seti(0x7F800000);
        store_byte<1>(x, c);
        for (int j = 0; j < N; ++j) {
            up[j] = addi(x[j], seti(0x8000));
            special = ori(special, _mm256_cmpeq_epi32(andi(up[j], exponent), exponent));
        }
        store_high(up, n);
        return _mm256_movemask_epi8(special) != 0;
    }
    INLINE static void roots(int32_t* most) {
        for (std::size_t run = 0; run < kBlock / 32; run += W) storei(most + run, bits(sqrt(floats(whole(most + run)))));
    }
    INLINE static void maxima(const int32_t* rows, int32_t* found) {
        for (std::size_t run = 0; run < kBlock / 32; ++run) {
            const I row = whole(rows + run * W);
            __m128i most = _mm_max_epu32(_mm256_castsi256_si128(row), _mm256_extracti128_si256(row, 1));
            most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0x4E));
            most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0xB1));
            found[run] = _mm_cvtsi128_si32(most);
        }
    }
};

}  // namespace
}  // namespace hasten::flash

#define HASTEN_FLASH_BLOCKS blocks_avx2
#include "kernel.hpp"
#endif
