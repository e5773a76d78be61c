// Planar blocks of 16 bits with AVX-512 VBMI2: a block is one load and one register. Part of planar_impl.hpp.

constexpr bool kReadsNothingBehind = true;

struct Places {  // of value i in a block of width w: its word, and where in the word it begins
    alignas(64) uint16_t word[17][kBlock], shift[17][kBlock];
};

constexpr Places places() {
    Places found{};
    for (unsigned w = 0; w <= 16; ++w) {
        for (unsigned i = 0; i < kBlock; ++i) {
            found.word[w][i] = static_cast<uint16_t>(i * w / 16);
            found.shift[w][i] = static_cast<uint16_t>(i * w % 16);
        }
    }
    return found;
}

constexpr Places kPlaces = places();

// The running sum of 32 words, on top of `carry`, which becomes the last of them in all words.
INLINE __m512i running_sum(__m512i x, __m512i& carry) {
    x = _mm512_add_epi16(x, _mm512_bslli_epi128(x, 2));
    x = _mm512_add_epi16(x, _mm512_bslli_epi128(x, 4));
    x = _mm512_add_epi16(x, _mm512_bslli_epi128(x, 8));
    const __m512i totals = _mm512_shuffle_epi8(x, _mm512_set1_epi16(0x0F0E));  // of each quarter, in all its words
    const __m512i one = _mm512_maskz_shuffle_i64x2(0xFC, totals, totals, 0x90);  // 0 a b c
    const __m512i two = _mm512_add_epi16(one, _mm512_maskz_shuffle_i64x2(0xFC, one, one, 0x90));  // 0 a ab bc
    const __m512i before = _mm512_add_epi16(two, _mm512_maskz_shuffle_i64x2(0xF0, two, two, 0x40));  // 0 a ab abc
    x = _mm512_add_epi16(x, before);
    const __m512i total = _mm512_permutexvar_epi16(_mm512_set1_epi16(31), x);
    const __m512i result = _mm512_add_epi16(x, carry);
    carry = _mm512_add_epi16(carry, total);
    return result;
}

// Blocks of a column.
template <Predictor predictor>
INLINE const uint8_t* unplanar_blocks(const uint8_t* widths, const uint8_t* in, std::size_t blocks, uint16_t base,
                                      uint16_t* state, uint16_t* out) {
    const __m512i one = _mm512_set1_epi16(1), bases = _mm512_set1_epi16(static_cast<int16_t>(base));
    __m512i x = _mm512_set1_epi16(static_cast<int16_t>(state[0])), d = _mm512_set1_epi16(static_cast<int16_t>(state[1]));
    for (std::size_t k = 0; k < blocks; ++k, out += kBlock) {
        const unsigned w = widths[k];
        const __m512i data = _mm512_maskz_loadu_epi8(_cvtu64_mask64(_bzhi_u64(~uint64_t{0}, 4 * w)), in);
        in += 4 * w;
        const __m512i word = _mm512_load_si512(kPlaces.word[w]);
        const __m512i low = _mm512_permutexvar_epi16(word, data);
        const __m512i high = _mm512_permutexvar_epi16(_mm512_add_epi16(word, one), data);
        const __m512i mask = _mm512_set1_epi16(static_cast<int16_t>((1u << w) - 1));
        const __m512i z = _mm512_and_si512(_mm512_shrdv_epi16(low, high, _mm512_load_si512(kPlaces.shift[w])), mask);
        __m512i result;
        if (predictor == Predictor::none) {
            result = _mm512_add_epi16(z, bases);
        } else {
            const __m512i sign = _mm512_sub_epi16(_mm512_setzero_si512(), _mm512_and_si512(z, one));
            const __m512i e = _mm512_xor_si512(_mm512_srli_epi16(z, 1), sign);
            result = running_sum(predictor == Predictor::delta2 ? running_sum(e, d) : e, x);
        }
        _mm512_storeu_si512(out, result);
    }
    state[0] = static_cast<uint16_t>(_mm_cvtsi128_si32(_mm512_castsi512_si128(x)));
    state[1] = static_cast<uint16_t>(_mm_cvtsi128_si32(_mm512_castsi512_si128(d)));
    return in;
}
