// AVX-512 F, BW, DQ, VL without the byte permutations of later machines.
#include "step.hpp"

#if defined(HASTEN_X86)
#include "avx512.hpp"

namespace hasten::flash {
namespace {

struct V : Avx512 {
    INLINE static I places(int j) {
        const I lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        return addi(lanes, seti(j * W));
    }
    INLINE static __m256i half(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
    INLINE static __m128i quarter(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

    INLINE static void load_float(const float* p, F x[N]) {
        for (int j = 0; j < N; ++j) x[j] = load(p + j * W);
    }
    INLINE static void store_float(const F x[N], float* p) {
        for (int j = 0; j < N; ++j) store(p + j * W, x[j]);
    }
    INLINE static void load_low(const uint16_t* p, I x[N]) {
        for (int j = 0; j < N; ++j) x[j] = _mm512_cvtepu16_epi32(half(p + j * W));
    }
    INLINE static void load_high(const uint16_t* p, I x[N]) {
        for (int j = 0; j < N; ++j) x[j] = left<16>(_mm512_cvtepu16_epi32(half(p + j * W)));
    }
    INLINE static void load_byte(const uint8_t* p, I x[N]) {
        for (int j = 0; j < N; ++j) x[j] = _mm512_cvtepu8_epi32(quarter(p + j * W));
    }
    INLINE static void load_joined(const uint16_t* n, const uint8_t* c, I x[N]) {
        load_high(n, x);
        for (int j = 0; j < N; ++j) x[j] = addi(x[j], left<8>(_mm512_cvtepi8_epi32(quarter(c + j * W))));
    }
    INLINE static void load_squares(const uint8_t* p, F x[N]) {
        for (int j = 0; j < N; ++j) {
            const I c = _mm512_cvtepu8_epi32(quarter(p + j * W));
            x[j] = _mm512_cvtepi32_ps(_mm512_mullo_epi16(c, c));
        }
    }
    INLINE static void load_fraction(const int8_t* p, F x[N]) {
        for (int j = 0; j < N; ++j) {
            const F c = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(quarter(p + j * W)));
            x[j] = div(c, sub(set(254.0f), _mm512_abs_ps(c)));
        }
    }
    INLINE static void store_low(const I x[N], uint16_t* p) {
        for (int j = 0; j < N; ++j) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + j * W), _mm512_cvtepi32_epi16(x[j]));
        }
    }
    INLINE static void store_high(const I x[N], uint16_t* p) {
        I words[N];
        for (int j = 0; j < N; ++j) words[j] = right<16>(x[j]);
        store_low(words, p);
    }
    INLINE static bool store_codes(const I x[N], uint8_t* p) {
        store_byte<0>(x, p);
        const I codes = whole(p);
        return _mm512_testn_epi8_mask(codes, codes) != 0;
    }
    INLINE static bool store_split(const I x[N], uint16_t* n, uint8_t* c) {
        I up[N];
        __mmask16 special = 0;
        const I exponent = seti(0x7F800000);
        store_byte<1>(x, c);
        for (int j = 0; j < N; ++j) {
            up[j] = addi(x[j], seti(0x8000));
            special |= _mm512_cmpeq_epi32_mask(andi(up[j], exponent), exponent);
        }
        store_high(up, n);
        return special != 0;
    }
    template <int k>
    INLINE static void store_byte(const I x[N], uint8_t* p) {
        for (int j = 0; j < N; ++j) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(p + j * W), _mm512_cvtepi32_epi8(right<8 * k>(x[j])));
        }
    }
};

}  // namespace
}  // namespace hasten::flash

#define HASTEN_FLASH_BLOCKS blocks_avx512
#include "kernel.hpp"
#endif
