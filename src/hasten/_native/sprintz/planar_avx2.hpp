// Planar blocks of 16 bits with AVX2: bits are unpacked by words of 64, the sums run in registers. Part of
// planar_impl.hpp.

constexpr bool kReadsNothingBehind = false;

// The running sum of 16 words, on top of `carry`, which becomes the last of them in all words.
INLINE __m256i running_sum(__m256i x, __m256i& carry) {
    x = _mm256_add_epi16(x, _mm256_slli_si256(x, 2));
    x = _mm256_add_epi16(x, _mm256_slli_si256(x, 4));
    x = _mm256_add_epi16(x, _mm256_slli_si256(x, 8));
    const __m256i totals = _mm256_shuffle_epi8(x, _mm256_set1_epi16(0x0F0E));  // of each half, in all its words
    x = _mm256_add_epi16(x, _mm256_permute2x128_si256(totals, totals, 0x08));  // 0 a
    const __m256i result = _mm256_add_epi16(x, carry);
    const __m256i last = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(x, _mm256_set1_epi16(0x0F0E)), 0xFF);
    carry = _mm256_add_epi16(carry, last);
    return result;
}

// Blocks of a column; reads 8 bytes behind them.
template <Predictor predictor>
INLINE const uint8_t* unplanar_blocks(const uint8_t* widths, const uint8_t* in, std::size_t blocks, uint16_t base,
                                      uint16_t* state, uint16_t* out) {
    constexpr std::size_t kAtOnce = 16;  // so that what is unpacked is in the cache, not on its way there
    const __m256i one = _mm256_set1_epi16(1), bases = _mm256_set1_epi16(static_cast<int16_t>(base));
    __m256i x = _mm256_set1_epi16(static_cast<int16_t>(state[0])), d = _mm256_set1_epi16(static_cast<int16_t>(state[1]));
    alignas(32) uint16_t z[kAtOnce * kBlock];
    for (std::size_t first = 0; first < blocks; first += kAtOnce) {
        const std::size_t count = blocks - first < kAtOnce ? blocks - first : kAtOnce;
        for (std::size_t k = 0; k < count; ++k) {
            const unsigned w = widths[first + k];
            unpack_block(in, w, z + k * kBlock);
            in += 4 * w;
        }
        for (std::size_t i = 0; i < count * kBlock; i += 16, out += 16) {
            const __m256i r = _mm256_load_si256(reinterpret_cast<const __m256i*>(z + i));
            __m256i result;
            if (predictor == Predictor::none) {
                result = _mm256_add_epi16(r, bases);
            } else {
                const __m256i sign = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_and_si256(r, one));
                const __m256i e = _mm256_xor_si256(_mm256_srli_epi16(r, 1), sign);
                result = running_sum(predictor == Predictor::delta2 ? running_sum(e, d) : e, x);
            }
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), result);
        }
    }
    state[0] = static_cast<uint16_t>(_mm256_extract_epi16(x, 0));
    state[1] = static_cast<uint16_t>(_mm256_extract_epi16(d, 0));
    return in;
}
