// What the two AVX-512 variants share: sixteen lanes. Included by avx512.cpp and avx512vnni.cpp only.
#pragma once

#include <immintrin.h>

#include "step.hpp"

namespace hasten::flash {
namespace {

struct Avx512 {
    using F = __m512;
    using I = __m512i;
    static constexpr int W = 16, N = 4;

    INLINE static F set(float x) { return _mm512_set1_ps(x); }
    INLINE static I seti(int32_t x) { return _mm512_set1_epi32(x); }
    INLINE static F floats(I x) { return _mm512_castsi512_ps(x); }
    INLINE static I bits(F x) { return _mm512_castps_si512(x); }
    INLINE static F load(const float* p) { return _mm512_loadu_ps(p); }
    INLINE static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
    INLINE static void storei(int32_t* p, I x) { _mm512_storeu_si512(p, x); }
    INLINE static F add(F a, F b) { return _mm512_add_ps(a, b); }
    INLINE static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
    INLINE static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    INLINE static F div(F a, F b) { return _mm512_div_ps(a, b); }
    INLINE static F sqrt(F a) { return _mm512_sqrt_ps(a); }
    INLINE static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
    INLINE static F fms(F a, F b, F c) { return _mm512_fmsub_ps(a, b, c); }
    INLINE static F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
    INLINE static I addi(I a, I b) { return _mm512_add_epi32(a, b); }
    INLINE static I subi(I a, I b) { return _mm512_sub_epi32(a, b); }
    INLINE static I multiplyi(I a, I b) { return _mm512_mullo_epi32(a, b); }
    INLINE static I andi(I a, I b) { return _mm512_and_si512(a, b); }
    INLINE static I ori(I a, I b) { return _mm512_or_si512(a, b); }
    INLINE static I xori(I a, I b) { return _mm512_xor_si512(a, b); }
    INLINE static I maxu(I a, I b) { return _mm512_max_epu32(a, b); }
    template <int k>
    INLINE static I left(I a) {
        return _mm512_slli_epi32(a, k);
    }
    template <int k>
    INLINE static I right(I a) {
        return _mm512_srli_epi32(a, k);
    }
    INLINE static bool any_above(I a, int32_t limit) { return _mm512_cmpgt_epi32_mask(a, seti(limit)) != 0; }
    INLINE static F raise(F code, F x, F floor) {
        return _mm512_mask_max_ps(code, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), code, floor);
    }
    INLINE static F sign(F x) {
        const F zero = _mm512_setzero_ps(), one = set(1.0f);
        const __mmask16 up = _mm512_cmp_ps_mask(x, zero, _CMP_GT_OQ), down = _mm512_cmp_ps_mask(x, zero, _CMP_LT_OQ);
        const F y = _mm512_mask_mov_ps(_mm512_maskz_mov_ps(up, one), down, set(-1.0f));
        return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
    }
    INLINE static I whole(const void* p) { return _mm512_loadu_si512(p); }

    INLINE static I if_less(I a, I limit, I then, I other) {
        return _mm512_mask_blend_epi32(_mm512_cmplt_epi32_mask(a, limit), other, then);
    }
    INLINE static I load_words(const uint16_t* p) {
        return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    INLINE static void store_words(I x, uint16_t* p) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
    }
    INLINE static void roots(int32_t* most) { storei(most, bits(sqrt(floats(whole(most))))); }
    // Maxima of 16 rows of 16: four times the rows are halved in number and the remaining lanes belong to more rows.
    INLINE static void maxima(const int32_t* rows, int32_t* found) {
        I a[8], b[4], c[2];
        for (int i = 0; i < 8; ++i) {
            const I x = whole(rows + i * W), y = whole(rows + (i + 8) * W);
            a[i] = maxu(_mm512_shuffle_i64x2(x, y, 0x44), _mm512_shuffle_i64x2(x, y, 0xEE));
        }
        for (int i = 0; i < 4; ++i) {
            b[i] = maxu(_mm512_shuffle_i64x2(a[i], a[i + 4], 0x88), _mm512_shuffle_i64x2(a[i], a[i + 4], 0xDD));
        }
        for (int i = 0; i < 2; ++i) {
            c[i] = maxu(_mm512_unpacklo_epi64(b[i], b[i + 2]), _mm512_unpackhi_epi64(b[i], b[i + 2]));
        }
        // Now quarter q of c[i] holds rows i + 8 (q odd ...): in each quarter two lanes of row r and two of row r + 2.
        const I low = _mm512_castps_si512(_mm512_shuffle_ps(floats(c[0]), floats(c[1]), 0x88));
        const I high = _mm512_castps_si512(_mm512_shuffle_ps(floats(c[0]), floats(c[1]), 0xDD));
        // Quarter q of the result: rows base, base + 2, base + 1, base + 3 with base = 0, 8, 4, 12.
        const I order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
        _mm512_storeu_si512(found, _mm512_permutexvar_epi32(order, maxu(low, high)));
    }
};

}  // namespace
}  // namespace hasten::flash
