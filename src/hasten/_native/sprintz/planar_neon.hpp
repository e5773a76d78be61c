// Planar blocks of 16 bits with NEON: eight values are `width` bytes and become one register. Part of planar_impl.hpp.

constexpr bool kReadsNothingBehind = false;

// Of eight values of width w, which are w bytes: from which bytes of a register each has its low and its high half, and
// how far both move. The register holds the first 8 bytes and the last 8, the same ones where there are no more.
struct Places {
    alignas(16) uint8_t low[17][16], high[17][16];
    alignas(16) int16_t right[17][8], left[17][8];
};

constexpr Places places() {
    Places found{};
    for (unsigned w = 0; w <= 16; ++w) {
        const auto place = [w](unsigned byte) { return static_cast<uint8_t>(byte < 8 ? byte : byte + 16 - w); };
        for (unsigned i = 0; i < 8; ++i) {
            const unsigned byte = i * w / 16 * 2, shift = i * w % 16;
            for (unsigned k = 0; k < 2; ++k) {
                found.low[w][2 * i + k] = place(byte + k);
                found.high[w][2 * i + k] = place(byte + 2 + k);
            }
            found.right[w][i] = static_cast<int16_t>(-static_cast<int>(shift));
            found.left[w][i] = static_cast<int16_t>(16 - shift);  // 16: nothing is left of it
        }
    }
    return found;
}

constexpr Places kPlaces = places();

// The running sum of 8 words, on top of `carry`, which becomes the last of them in all words.
INLINE uint16x8_t running_sum(uint16x8_t x, uint16x8_t& carry) {
    const uint16x8_t zero = vdupq_n_u16(0);
    x = vaddq_u16(x, vextq_u16(zero, x, 7));
    x = vaddq_u16(x, vextq_u16(zero, x, 6));
    x = vaddq_u16(vaddq_u16(x, carry), vextq_u16(zero, x, 4));
    carry = vdupq_laneq_u16(x, 7);
    return x;
}

// Blocks of a column; reads 8 bytes behind them.
template <Predictor predictor>
INLINE const uint8_t* unplanar_blocks(const uint8_t* widths, const uint8_t* in, std::size_t blocks, uint16_t base,
                                      uint16_t* state, uint16_t* out) {
    const uint16x8_t one = vdupq_n_u16(1), bases = vdupq_n_u16(base);
    uint16x8_t x = vdupq_n_u16(state[0]), d = vdupq_n_u16(state[1]);
    for (std::size_t k = 0; k < blocks; ++k) {
        const unsigned w = widths[k];
        const uint8x16_t low = vld1q_u8(kPlaces.low[w]), high = vld1q_u8(kPlaces.high[w]);
        const int16x8_t right = vld1q_s16(kPlaces.right[w]), left = vld1q_s16(kPlaces.left[w]);
        const uint16x8_t mask = vdupq_n_u16(static_cast<uint16_t>((1u << w) - 1));
        const std::size_t last = w > 8 ? w - 8 : 0;
        for (unsigned part = 0; part < kBlock; part += 8, in += w, out += 8) {
            const uint8x16_t data = vcombine_u8(vld1_u8(in), vld1_u8(in + last));
            const uint16x8_t lows = vreinterpretq_u16_u8(vqtbl1q_u8(data, low));
            const uint16x8_t highs = vreinterpretq_u16_u8(vqtbl1q_u8(data, high));
            const uint16x8_t z = vandq_u16(vorrq_u16(vshlq_u16(lows, right), vshlq_u16(highs, left)), mask);
            uint16x8_t result;
            if (predictor == Predictor::none) {
                result = vaddq_u16(z, bases);
            } else {
                const uint16x8_t sign = vsubq_u16(vdupq_n_u16(0), vandq_u16(z, one));
                const uint16x8_t e = veorq_u16(vshrq_n_u16(z, 1), sign);
                result = running_sum(predictor == Predictor::delta2 ? running_sum(e, d) : e, x);
            }
            vst1q_u16(out, result);
        }
    }
    state[0] = vgetq_lane_u16(x, 0);
    state[1] = vgetq_lane_u16(d, 0);
    return in;
}
