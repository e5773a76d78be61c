// AVX-512 with VBMI (Ice Lake, Zen 4 and later): bytes and words are spread and gathered by permutations, and the
// fraction c / (254 - |c|) comes out of a table of 128 entries that two registers hold byte by byte.
//
// A quad lies in four vectors in the order that unpacking within 128 bits gives: vectors 2h and 2h + 1 hold the run
// 32h .. 32h + 31, quarter q of the first one the elements 8q .. 8q + 3, of the second one 8q + 4 .. 8q + 7.
#include "step.hpp"

#if defined(HASTEN_X86)
#include "avx512.hpp"

namespace hasten::flash {
namespace {

struct Fractions {
    alignas(64) uint8_t bytes[4][128];  // byte k of the fraction of each size

    Fractions() {
        for (int c = 0; c < 128; ++c) {
            const float fraction = static_cast<float>(c) / (254.0f - static_cast<float>(c));
            uint32_t word;
            __builtin_memcpy(&word, &fraction, 4);
            for (int k = 0; k < 4; ++k) bytes[k][c] = static_cast<uint8_t>(word >> (8 * k));
        }
    }
};

// Made at the first use, in this function: a constructor at load time would run on machines without AVX-512.
inline const Fractions& fractions() {
    static const Fractions table;
    return table;
}

struct V : Avx512 {
    INLINE static I places(int j) {
        const I lanes = _mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
        return addi(lanes, seti(32 * (j / 2) + 4 * (j % 2)));
    }
    INLINE static void load_float(const float* p, F x[N]) {
        for (int h = 0; h < 2; ++h) {
            const F a = load(p + 32 * h), b = load(p + 32 * h + 16);
            x[2 * h] = _mm512_shuffle_f32x4(a, b, 0x88);
            x[2 * h + 1] = _mm512_shuffle_f32x4(a, b, 0xDD);
        }
    }
    INLINE static void store_float(const F x[N], float* p) {
        const I first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
        const I second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
        for (int h = 0; h < 2; ++h) {
            store(p + 32 * h, _mm512_permutex2var_ps(x[2 * h], first, x[2 * h + 1]));
            store(p + 32 * h + 16, _mm512_permutex2var_ps(x[2 * h], second, x[2 * h + 1]));
        }
    }
    INLINE static I zero() { return _mm512_setzero_si512(); }

    // Dwords out of words: `low` and `high` are their halves.
    INLINE static void spread(const I low[2], const I high[2], I x[N]) {
        for (int h = 0; h < 2; ++h) {
            x[2 * h] = _mm512_unpacklo_epi16(low[h], high[h]);
            x[2 * h + 1] = _mm512_unpackhi_epi16(low[h], high[h]);
        }
    }
    INLINE static void load_low(const uint16_t* p, I x[N]) {
        const I words[2] = {whole(p), whole(p + 32)}, none[2] = {zero(), zero()};
        spread(words, none, x);
    }
    INLINE static void load_high(const uint16_t* p, I x[N]) {
        const I words[2] = {whole(p), whole(p + 32)}, none[2] = {zero(), zero()};
        spread(none, words, x);
    }
    // 64 bytes, in the order in which unpacking gives words 0 .. 31 and 32 .. 63.
    INLINE static I load_bytes(const void* p) {
        return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), whole(p));
    }
    INLINE static void words(I low, I high, I found[2]) {
        found[0] = _mm512_unpacklo_epi8(low, high);
        found[1] = _mm512_unpackhi_epi8(low, high);
    }
    INLINE static void load_byte(const uint8_t* p, I x[N]) {
        const I none[2] = {zero(), zero()};
        I low[2];
        words(load_bytes(p), zero(), low);
        spread(low, none, x);
    }
    // The square of a byte fits a word; behind the exponent of 2^23 a word is a float.
    INLINE static void load_squares(const uint8_t* p, F x[N]) {
        const I exponent = _mm512_set1_epi16(0x4B00), high[2] = {exponent, exponent};
        I low[2], y[N];
        words(load_bytes(p), zero(), low);
        for (int h = 0; h < 2; ++h) low[h] = _mm512_mullo_epi16(low[h], low[h]);
        spread(low, high, y);
        for (int j = 0; j < N; ++j) x[j] = sub(floats(y[j]), set(8388608.0f));
    }
    INLINE static void load_joined(const uint16_t* n, const uint8_t* c, I x[N]) {
        const __mmask64 borrows = _mm512_movepi8_mask(whole(c));
        const I one = _mm512_set1_epi16(1), first = whole(n), second = whole(n + 32);
        const I high[2] = {_mm512_mask_sub_epi16(first, static_cast<__mmask32>(borrows), first, one),
                           _mm512_mask_sub_epi16(second, static_cast<__mmask32>(borrows >> 32), second, one)};
        I low[2];
        words(zero(), load_bytes(c), low);
        spread(low, high, x);
    }
    INLINE static void load_fraction(const int8_t* p, F x[N]) {
        const Fractions& table = fractions();
        const I codes = load_bytes(p), sizes = _mm512_abs_epi8(codes);
        I byte[4], low[2], high[2], y[N];
        for (int k = 0; k < 4; ++k) {
            byte[k] = _mm512_permutex2var_epi8(whole(table.bytes[k]), sizes, whole(table.bytes[k] + 64));
        }
        // byte[3] | (codes & 0x80): the sign
        byte[3] = _mm512_ternarylogic_epi32(byte[3], codes, _mm512_set1_epi8(static_cast<char>(0x80)), 0xF8);
        words(byte[0], byte[1], low);
        words(byte[2], byte[3], high);
        spread(low, high, y);
        for (int j = 0; j < N; ++j) x[j] = floats(y[j]);
    }

    // Words 0 .. 31 of a run: of each pair of vectors the word 2 * i + odd of dword i, back in order.
    INLINE static I gather_words(I a, I b, int odd) {
        const I even = _mm512_set_epi16(62, 60, 58, 56, 30, 28, 26, 24, 54, 52, 50, 48, 22, 20, 18, 16, 46, 44, 42, 40, 14,
                                        12, 10, 8, 38, 36, 34, 32, 6, 4, 2, 0);
        return _mm512_permutex2var_epi16(a, odd ? _mm512_add_epi16(even, _mm512_set1_epi16(1)) : even, b);
    }
    INLINE static void store_low(const I x[N], uint16_t* p) {
        for (int h = 0; h < 2; ++h) _mm512_storeu_si512(p + 32 * h, gather_words(x[2 * h], x[2 * h + 1], 0));
    }
    INLINE static void store_high(const I x[N], uint16_t* p) {
        for (int h = 0; h < 2; ++h) _mm512_storeu_si512(p + 32 * h, gather_words(x[2 * h], x[2 * h + 1], 1));
    }
    // Byte k of the 32 dwords of each run.
    template <int k>
    INLINE static I gather_bytes(const I x[N]) {
        const I even = _mm512_set_epi16(62, 60, 58, 56, 30, 28, 26, 24, 54, 52, 50, 48, 22, 20, 18, 16, 46, 44, 42, 40,
                                        14, 12, 10, 8, 38, 36, 34, 32, 6, 4, 2, 0);
        const I order = _mm512_broadcast_i64x4(
            _mm512_cvtepi16_epi8(_mm512_add_epi16(_mm512_slli_epi16(even, 1), _mm512_set1_epi16(k))));
        const I first = _mm512_permutex2var_epi8(x[0], order, x[1]);
        return _mm512_mask_blend_epi64(0xF0, first, _mm512_permutex2var_epi8(x[2], order, x[3]));
    }
    template <int k>
    INLINE static void store_byte(const I x[N], uint8_t* p) {
        _mm512_storeu_si512(p, gather_bytes<k>(x));
    }
    INLINE static bool store_codes(const I x[N], uint8_t* p) {
        const I codes = gather_bytes<0>(x);
        _mm512_storeu_si512(p, codes);
        return _mm512_testn_epi8_mask(codes, codes) != 0;
    }
    // A negative correction is a word that was rounded up.
    INLINE static bool store_split(const I x[N], uint16_t* n, uint8_t* c) {
        const I low = gather_bytes<1>(x), one = _mm512_set1_epi16(1), infinite = _mm512_set1_epi16(-0x100);
        const __mmask64 carries = _mm512_movepi8_mask(low);
        I first = gather_words(x[0], x[1], 1), second = gather_words(x[2], x[3], 1);
        first = _mm512_mask_add_epi16(first, static_cast<__mmask32>(carries), first, one);
        second = _mm512_mask_add_epi16(second, static_cast<__mmask32>(carries >> 32), second, one);
        _mm512_storeu_si512(c, low);
        _mm512_storeu_si512(n, first);
        _mm512_storeu_si512(n + 32, second);
        return (_mm512_cmpge_epu16_mask(_mm512_add_epi16(first, first), infinite) |
                _mm512_cmpge_epu16_mask(_mm512_add_epi16(second, second), infinite)) != 0;
    }
};

}  // namespace
}  // namespace hasten::flash

#define HASTEN_FLASH_BLOCKS blocks_avx512vnni
#include "kernel.hpp"
#endif
