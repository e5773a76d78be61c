// Linear prediction of 32 bits with NEON, which multiplies 32 by 32 bits and not 64 by 64, as the compiler would have
// to. Part of predict_impl.hpp.

// Values less 2^31 fit the multiplier, and what that takes off the sum is the same for all.
template <unsigned order, bool known>
void linear32(uint32_t* v, uint32_t* z, std::size_t steps, const int16_t* coefficients) {
    const uint32x4_t one = vdupq_n_u32(1), half = vdupq_n_u32(0x80000000);
    int32x4_t last[order][2];  // of eight lanes, the latest first
    uint64_t lost = 2048;
    for (unsigned j = 0; j < order; ++j) {
        lost += static_cast<uint64_t>(int64_t{coefficients[j]}) << 31;
        for (unsigned k = 0; k < 2; ++k) {
            const uint32x4_t x = vld1q_u32(v + (order - 1 - j) * kLanes + 4 * k);
            last[j][k] = vreinterpretq_s32_u32(veorq_u32(x, half));
        }
    }
    const int64x2_t start = vreinterpretq_s64_u64(vdupq_n_u64(lost));
    for (std::size_t t = order; t < steps; ++t) {
        int64x2_t sum[4] = {start, start, start, start};
        for (unsigned j = order; j-- > 0;) {  // the latest comes last: it is waited for
            for (unsigned k = 0; k < 2; ++k) {
                sum[2 * k] = vmlal_n_s32(sum[2 * k], vget_low_s32(last[j][k]), coefficients[j]);
                sum[2 * k + 1] = vmlal_high_n_s32(sum[2 * k + 1], last[j][k], coefficients[j]);
            }
        }
        for (unsigned k = 0; k < 2; ++k) {
            const int32x4_t shifted = vshrn_high_n_s64(vshrn_n_s64(sum[2 * k], 12), sum[2 * k + 1], 12);
            const uint32x4_t predicted = vreinterpretq_u32_s32(shifted);
            uint32_t *const at = v + t * kLanes + 4 * k, *const rest = z + t * kLanes + 4 * k;
            uint32x4_t x;
            if (known) {
                x = vld1q_u32(at);
                const uint32x4_t d = vsubq_u32(x, predicted);
                const uint32x4_t sign = vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(d), 31));
                vst1q_u32(rest, veorq_u32(vshlq_n_u32(d, 1), sign));
            } else {
                const uint32x4_t e = vld1q_u32(rest);
                const uint32x4_t sign = vsubq_u32(vdupq_n_u32(0), vandq_u32(e, one));
                x = vaddq_u32(predicted, veorq_u32(vshrq_n_u32(e, 1), sign));
                vst1q_u32(at, x);
            }
            for (unsigned j = order - 1; j > 0; --j) last[j][k] = last[j - 1][k];
            last[0][k] = vreinterpretq_s32_u32(veorq_u32(x, half));
        }
    }
}
