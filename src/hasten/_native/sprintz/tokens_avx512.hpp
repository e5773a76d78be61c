// Codes of 16-bit residuals with AVX-512: 128 values at a time for all four streams. Part of tokens_impl.hpp.
//
// Four neighbours of a stream become one number of up to 64 bits in registers; such numbers of the four streams side by
// side are a row, and what a pen holds (the word that is not yet full, and how full it is) is there four times, too. Of the
// words after each row those are kept that have become full: eight rows later they go to memory, one store for each stream.

constexpr std::size_t kRows = 8;

struct Indices {
    alignas(64) uint16_t turned[32];  // of 4 steps, two rows: in each 64 bits four values of a stream
    alignas(64) uint64_t words[kStreams][8];  // of a stream, of four rows in two registers
};

constexpr Indices indices() {
    Indices found{};
    for (unsigned q = 0; q < kStreams; ++q) {
        for (unsigned k = 0; k < 8; ++k) {
            found.turned[(k / 4 * kStreams + q) * 4 + k % 4] = static_cast<uint16_t>(k / 2 * kLanes + q + k % 2 * kStreams);
            found.words[q][k] = k % 4 * kStreams + q;  // of the first register, then of the second
        }
    }
    return found;
}

constexpr Indices kIndices = indices();

struct Brush {
    static constexpr std::size_t kSteps = 2 * kRows;

    __m512i low, high;  // the codes of 64 tokens, and from bit 12 on how long they are
    __m512i kinds;      // of z / 8: raw bits, and from bit 8 on what is added to the rest to make a token

    INLINE explicit Brush(const Code* codes) {
        alignas(64) uint16_t entries[64], of[32];
        for (unsigned s = 0; s < 64; ++s) entries[s] = static_cast<uint16_t>(codes[s].bits | codes[s].length << 12);
        for (unsigned k = 0; k < 32; ++k) {
            const uint16_t least = static_cast<uint16_t>(8 * k);
            const unsigned raw = raw_bits(least);
            of[k] = static_cast<uint16_t>(raw | (token(least) - (least >> raw)) << 8);
        }
        low = _mm512_load_si512(entries);
        high = _mm512_load_si512(entries + 32);
        kinds = _mm512_load_si512(of);
    }

    struct Numbers {
        __m512i bits, lengths;  // of two rows
    };

    INLINE Numbers numbers(__m512i z) const {  // all below 256
        z = _mm512_permutexvar_epi16(_mm512_load_si512(kIndices.turned), z);
        const __m512i kind = _mm512_permutexvar_epi16(_mm512_srli_epi16(z, 3), kinds);
        const __m512i raw = _mm512_and_si512(kind, _mm512_set1_epi16(255)), rest = _mm512_srlv_epi16(z, raw);
        const __m512i entry = _mm512_permutex2var_epi16(low, _mm512_add_epi16(rest, _mm512_srli_epi16(kind, 8)), high);
        const __m512i length = _mm512_srli_epi16(entry, 12), code = _mm512_and_si512(entry, _mm512_set1_epi16(0xFFF));
        const __m512i extra = _mm512_sub_epi16(z, _mm512_sllv_epi16(rest, raw));
        __m512i bits = _mm512_or_si512(code, _mm512_sllv_epi16(extra, length));
        __m512i lengths = _mm512_add_epi16(length, raw);
        const __m512i low16 = _mm512_set1_epi32(0xFFFF), low32 = _mm512_set1_epi64(0xFFFFFFFF);
        const __m512i first = _mm512_and_si512(lengths, low16);
        bits = _mm512_or_si512(_mm512_and_si512(bits, low16), _mm512_sllv_epi32(_mm512_srli_epi32(bits, 16), first));
        lengths = _mm512_add_epi32(first, _mm512_srli_epi32(lengths, 16));
        const __m512i second = _mm512_and_si512(lengths, low32);
        bits = _mm512_or_si512(_mm512_and_si512(bits, low32), _mm512_sllv_epi64(_mm512_srli_epi64(bits, 32), second));
        return {bits, _mm512_add_epi64(second, _mm512_srli_epi64(lengths, 32))};
    }

    struct State {
        __m256i word, filled;  // of each stream
        __m256i full;          // bit r: there was a full word after row r
    };

    // One row; returns the words as they are before those that are full make room.
    template <int row>
    INLINE static __m256i add(State& s, __m256i bits, __m256i lengths) {
        const __m256i word = _mm256_or_si256(s.word, _mm256_sllv_epi64(bits, s.filled));
        const __m256i over = _mm256_srlv_epi64(bits, _mm256_sub_epi64(_mm256_set1_epi64x(64), s.filled));
        const __m256i filled = _mm256_add_epi64(s.filled, lengths), bit = _mm256_and_si256(filled, _mm256_set1_epi64x(64));
        s.word = _mm256_mask_mov_epi64(word, _mm256_test_epi64_mask(bit, bit), over);
        s.filled = _mm256_xor_si256(filled, bit);
        s.full = _mm256_or_si256(s.full, row < 6 ? _mm256_srli_epi64(bit, 6 - row) : _mm256_slli_epi64(bit, row - 6));
        return word;
    }

    // As many steps as have small values, a multiple of kSteps; the pens do the others.
    INLINE std::size_t put(uint8_t* memory, Pen* pens, const uint16_t* z, std::size_t steps) const {
        State state;
        alignas(32) uint64_t words[kStreams], filled[kStreams];
        uint8_t* to[kStreams];
        for (std::size_t q = 0; q < kStreams; ++q) {
            words[q] = pens[q].word;
            filled[q] = pens[q].at % 64;
            to[q] = memory + pens[q].at / 64 * 8;
        }
        state.word = _mm256_load_si256(reinterpret_cast<const __m256i*>(words));
        state.filled = _mm256_load_si256(reinterpret_cast<const __m256i*>(filled));
        std::size_t t = 0;
        for (; t + kSteps <= steps; t += kSteps, z += kSteps * kLanes) {
            const __m512i a = _mm512_loadu_si512(z), b = _mm512_loadu_si512(z + 32);
            const __m512i c = _mm512_loadu_si512(z + 64), d = _mm512_loadu_si512(z + 96);
            const __m512i any = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
            if (_mm512_test_epi16_mask(any, _mm512_set1_epi16(static_cast<int16_t>(0xFF00))) != 0) break;
            state.full = _mm256_setzero_si256();
            const __m512i first = two_rows<0>(state, numbers(a)), second = two_rows<2>(state, numbers(b));
            const __m512i third = two_rows<4>(state, numbers(c)), fourth = two_rows<6>(state, numbers(d));
            uint32_t full = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm256_cvtepi64_epi8(state.full)));
            for (std::size_t q = 0; q < kStreams; ++q, full >>= 8) {
                const __m512i index = _mm512_load_si512(kIndices.words[q]);
                const __m512i front = _mm512_permutex2var_epi64(first, index, second);
                const __m512i back = _mm512_permutex2var_epi64(third, index, fourth);
                const __m512i column = _mm512_inserti64x4(front, _mm512_castsi512_si256(back), 1);
                const uint8_t mask = static_cast<uint8_t>(full);
                _mm512_storeu_si512(to[q], _mm512_maskz_compress_epi64(mask, column));
                to[q] += 8 * _mm_popcnt_u32(mask);
            }
        }
        _mm256_store_si256(reinterpret_cast<__m256i*>(words), state.word);
        _mm256_store_si256(reinterpret_cast<__m256i*>(filled), state.filled);
        for (std::size_t q = 0; q < kStreams; ++q) {
            pens[q].word = words[q];
            pens[q].at = 8 * static_cast<std::size_t>(to[q] - memory) + filled[q];
        }
        return t;
    }

    template <int row>
    INLINE static __m512i two_rows(State& s, const Numbers& n) {
        const __m256i one = add<row>(s, _mm512_castsi512_si256(n.bits), _mm512_castsi512_si256(n.lengths));
        const __m256i other = add<row + 1>(s, _mm512_extracti64x4_epi64(n.bits, 1), _mm512_extracti64x4_epi64(n.lengths, 1));
        return _mm512_inserti64x4(_mm512_castsi256_si512(one), other, 1);
    }
};
