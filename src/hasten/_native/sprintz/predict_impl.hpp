// Predictors over lanes: v[8 t + l] is value t of lane l, and every loop over l is eight times the same work. All
// arithmetic is modulo 2^bits of T. Part of kernels_impl.hpp.
//
// Each is written once, as a loop over steps that sees either the values (known) or the residuals, and finds the other.

template <typename T> struct WideOf { using type = int64_t; };
template <> struct WideOf<uint16_t> { using type = int32_t; };
template <typename T> struct UnsignedFor;
template <> struct UnsignedFor<int32_t> { using type = uint32_t; };
template <> struct UnsignedFor<int64_t> { using type = uint64_t; };
template <typename T>
using UnsignedOf = typename UnsignedFor<T>::type;

// The first steps of those that look further back: the value before, and nothing before the first.
template <typename T, bool known>
INLINE void warm_up(T* v, T* z, std::size_t steps, std::size_t count) {
    for (std::size_t t = 0; t < steps && t < count; ++t) {
        for (std::size_t l = 0; l < kLanes; ++l) {
            const T before = t ? v[(t - 1) * kLanes + l] : T{0};
            if (known) {
                z[t * kLanes + l] = zigzag(static_cast<T>(v[t * kLanes + l] - before));
            } else {
                v[t * kLanes + l] = static_cast<T>(before + unzigzag(z[t * kLanes + l]));
            }
        }
    }
}

template <typename T, bool known>
void differences(T* v, T* z, std::size_t steps, bool twice) {
    warm_up<T, known>(v, z, steps, twice ? 2 : 1);
    if (steps < (twice ? 2 : 1)) return;
    Lanes<T> x = Lanes<T>::load(v), d = Lanes<T>::all(0);  // the last value, and the last difference if that counts
    std::size_t t = 1;
    if (twice) {
        x = Lanes<T>::load(v + kLanes);
        d = x - Lanes<T>::load(v);
        t = 2;
    }
    for (; t < steps; ++t) {
        T *const at = v + t * kLanes, *const rest = z + t * kLanes;
        if (known) {
            const Lanes<T> next = Lanes<T>::load(at), step = next - x;
            (twice ? step - d : step).zigzag().store(rest);
            x = next;
            d = step;
        } else {
            const Lanes<T> e = Lanes<T>::load(rest).unzigzag();
            d = twice ? d + e : e;
            x = x + d;
            x.store(at);
        }
    }
}

// FIRE of the published streams for 16 bits and narrow rows, one lane a column: a share of the last difference, which a
// counter holds; the counter moves after 8 steps, by the signs of every other error.
template <typename T, bool known>
void fire(T* v, T* z, std::size_t steps) {
    T x[kLanes] = {};
    int32_t d[kLanes] = {}, counter[kLanes] = {};
    for (std::size_t first = 0; first < steps; first += 8) {
        int16_t gradient[kLanes] = {};
        for (std::size_t t = first; t < first + 8 && t < steps; ++t) {
            for (std::size_t l = 0; l < kLanes; ++l) {
                const std::size_t i = t * kLanes + l;
                const int64_t product = int64_t{d[l]} * (counter[l] >> 1);
                const int32_t predicted = static_cast<int32_t>(product >> 16);
                if (known) z[i] = zigzag(static_cast<T>(v[i] - x[l] - predicted));
                const int16_t error = static_cast<int16_t>(unzigzag(z[i]));
                if (!known) v[i] = static_cast<T>(x[l] + error + predicted);
                const int32_t sign = (error > 0) - (error < 0);
                if (t % 2 == 1) gradient[l] = static_cast<int16_t>(gradient[l] + sign * d[l]);  // the last difference
                d[l] = static_cast<int16_t>(error + predicted);
                x[l] = v[i];
            }
        }
        for (std::size_t l = 0; l < kLanes; ++l) {
            counter[l] = static_cast<int32_t>(static_cast<uint32_t>(counter[l]) + static_cast<uint32_t>(gradient[l] >> 2));
        }
    }
}

// Sign-sign LMS over the last k differences: weights stand still for 8 steps, then move by what the signs of these say.
template <typename T, bool known, unsigned k>
void nlms(T* v, T* z, std::size_t steps) {
    constexpr unsigned shift = k == 1 ? 15 : 16;
    constexpr int64_t rate = k == 1 ? 128 : 64, low = k == 1 ? -(1 << 14) : -(1 << 17),
                      high = k == 1 ? (1 << 15) - 1 : 1 << 17;
    T x[kLanes] = {};
    int64_t q[k][kLanes] = {}, weight[k][kLanes] = {};
    for (std::size_t first = 0; first < steps; first += 8) {
        int64_t signs[k][kLanes] = {};
        for (std::size_t t = first; t < first + 8 && t < steps; ++t) {
            for (std::size_t l = 0; l < kLanes; ++l) {
                const std::size_t i = t * kLanes + l;
                uint64_t sum = uint64_t{1} << (shift - 1);
                for (unsigned j = 0; j < k; ++j) sum += static_cast<uint64_t>(weight[j][l]) * static_cast<uint64_t>(q[j][l]);
                const T predicted = static_cast<T>(static_cast<int64_t>(sum) >> shift);
                if (known) z[i] = zigzag(static_cast<T>(v[i] - x[l] - predicted));
                const T e = unzigzag(z[i]);
                const T d = static_cast<T>(e + predicted);
                if (!known) v[i] = static_cast<T>(x[l] + d);
                const int64_t error = static_cast<Signed<T>>(e), sign = (error > 0) - (error < 0);
                for (unsigned j = 0; j < k; ++j) signs[j][l] += sign * ((q[j][l] > 0) - (q[j][l] < 0));
                for (unsigned j = k; --j > 0;) q[j][l] = q[j - 1][l];
                q[0][l] = static_cast<Signed<T>>(d);
                x[l] = v[i];
            }
        }
        for (unsigned j = 0; j < k; ++j) {
            for (std::size_t l = 0; l < kLanes; ++l) {
                const int64_t moved = weight[j][l] + rate * signs[j][l];
                weight[j][l] = moved < low ? low : moved > high ? high : moved;
            }
        }
    }
}

#if defined(__AVX2__)
// The same for 16 bits, two coefficients with one instruction: values less 2^15 fit it, and what that takes off the sum
// is the same for all.
template <unsigned order, bool known>
void linear16(uint16_t* v, uint16_t* z, std::size_t steps, const int16_t* coefficients) {
    __m256i c[order / 2], pairs[order];  // pairs[j]: value j + 1 before the next in the low half, j + 2 in the high one
    uint32_t lost = 2048;
    for (unsigned j = 0; j < order; ++j) lost += static_cast<uint32_t>(coefficients[j]) << 15;
    for (unsigned j = 0; j < order / 2; ++j) {
        const uint32_t low = static_cast<uint16_t>(coefficients[2 * j]), high = static_cast<uint16_t>(coefficients[2 * j + 1]);
        c[j] = _mm256_set1_epi32(static_cast<int32_t>(low | high << 16));
    }
    const auto wide = [&](std::size_t t) INLINE_LAMBDA {
        return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(v + t * kLanes)));
    };
    const __m256i half = _mm256_set1_epi32(0x8000), mask = _mm256_set1_epi32(0xFFFF);
    __m256i last = _mm256_xor_si256(wide(order - 1), half);
    for (unsigned j = 0; j < order; ++j) {
        const __m256i x = _mm256_xor_si256(wide(order - 1 - j), half);
        const __m256i before = j + 1 < order ? _mm256_xor_si256(wide(order - 2 - j), half) : half;
        pairs[j] = _mm256_or_si256(x, _mm256_slli_epi32(before, 16));
    }
    const __m256i start = _mm256_set1_epi32(static_cast<int32_t>(lost)), one = _mm256_set1_epi32(1);
    for (std::size_t t = order; t < steps; ++t) {
        __m256i sum = start;
        for (unsigned j = order / 2; j-- > 0;) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs[2 * j], c[j]));
        __m128i* const residual = reinterpret_cast<__m128i*>(z + t * kLanes);
        if (known) {
            const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(v + t * kLanes));
            const __m256i masked = _mm256_and_si256(_mm256_srai_epi32(sum, 12), mask);
            const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(masked, masked), 8);
            const __m128i d = _mm_sub_epi16(x, _mm256_castsi256_si128(both));
            _mm_storeu_si128(residual, _mm_xor_si128(_mm_slli_epi16(d, 1), _mm_srai_epi16(d, 15)));
            for (unsigned j = order - 1; j > 0; --j) pairs[j] = pairs[j - 1];
            const __m256i next = _mm256_xor_si256(_mm256_cvtepu16_epi32(x), half);
            pairs[0] = _mm256_or_si256(next, _mm256_slli_epi32(last, 16));
            last = next;
            continue;
        }
        const __m256i rest = _mm256_cvtepu16_epi32(_mm_loadu_si128(residual));
        const __m256i e = _mm256_xor_si256(_mm256_srli_epi32(rest, 1),
                                           _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_and_si256(rest, one)));
        const __m256i x = _mm256_and_si256(_mm256_add_epi32(_mm256_srai_epi32(sum, 12), e), mask);
        const __m128i packed = _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 8));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(v + t * kLanes), packed);
        for (unsigned j = order - 1; j > 0; --j) pairs[j] = pairs[j - 1];
        const __m256i next = _mm256_xor_si256(x, half);
        pairs[0] = _mm256_or_si256(next, _mm256_slli_epi32(last, 16));
        last = next;
    }
}
#elif defined(HASTEN_SPRINTZ_NEON)
#include "linear_neon.hpp"
#endif

// Linear prediction from the last `order` values.
template <typename T, bool known, unsigned order>
void linear(T* v, T* z, std::size_t steps, const int16_t* coefficients) {
    using U = UnsignedOf<typename WideOf<T>::type>;
    warm_up<T, known>(v, z, steps, order);
    if (steps <= order) return;
#if defined(__AVX2__)
    if constexpr (sizeof(T) == 2) return linear16<order, known>(v, z, steps, coefficients);
#elif defined(HASTEN_SPRINTZ_NEON)
    if constexpr (sizeof(T) == 4) return linear32<order, known>(v, z, steps, coefficients);
#endif
    Lanes<U> c[order], last[order];
    for (unsigned j = 0; j < order; ++j) {
        c[j] = Lanes<U>::all(static_cast<U>(typename WideOf<T>::type{coefficients[j]}));
        last[j] = Lanes<U>::load(v + (order - 1 - j) * kLanes);
    }
    for (std::size_t t = order; t < steps; ++t) {
        T *const at = v + t * kLanes, *const rest = z + t * kLanes;
        Lanes<U> sum = Lanes<U>::all(2048);
        for (unsigned j = order; j-- > 0;) sum = sum + c[j] * last[j];  // the latest comes last: it is waited for
        const Lanes<U> predicted = sum.template shifted<12>();
        for (unsigned j = order - 1; j > 0; --j) last[j] = last[j - 1];
        if (known) {
            const Lanes<T> x = Lanes<T>::load(at);
            (x - predicted.template as<T>()).zigzag().store(rest);
            last[0] = x.template as<U>();
        } else {  // in U throughout: to narrow and widen would take as long as all the rest
            const Lanes<U> e = Lanes<T>::load(rest).unzigzag().template as<U>();
            last[0] = (predicted + e) & Lanes<U>::all(static_cast<T>(~T{0}));
            last[0].template as<T>().store(at);
        }
    }
}

template <typename T, bool known>
void predict(T* v, T* z, std::size_t steps, const Prediction& p) {
    const int16_t* const c = p.coefficients;
    switch (p.predictor) {
        case Predictor::none:
            for (std::size_t i = 0; i < kLanes * steps; ++i) (known ? z : v)[i] = (known ? v : z)[i];
            return;
        case Predictor::delta: return differences<T, known>(v, z, steps, false);
        case Predictor::delta2: return differences<T, known>(v, z, steps, true);
        case Predictor::fire: return fire<T, known>(v, z, steps);
        case Predictor::nlms1: return nlms<T, known, 1>(v, z, steps);
        case Predictor::nlms2: return nlms<T, known, 2>(v, z, steps);
        case Predictor::nlms4: return nlms<T, known, 4>(v, z, steps);
        case Predictor::lpc: break;
    }
    switch (p.order) {
        case 2: return linear<T, known, 2>(v, z, steps, c);
        case 4: return linear<T, known, 4>(v, z, steps, c);
        case 8: return linear<T, known, 8>(v, z, steps, c);
        default: return linear<T, known, 16>(v, z, steps, c);
    }
}

template <typename T>
void residuals(const T* v, std::size_t steps, const Prediction& prediction, T* z) {
    predict<T, true>(const_cast<T*>(v), z, steps, prediction);  // which reads v only
}

template <typename T>
void values(const T* z, std::size_t steps, const Prediction& prediction, T* v) {
    predict<T, false>(v, const_cast<T*>(z), steps, prediction);
}

// In double, each lane for itself, so that no instruction set adds in another order.
template <typename T>
void products(const T* v, std::size_t first, std::size_t steps, std::size_t order, double* found) {
    constexpr std::size_t kAtOnce = 64;
    double window[(kAtOnce + kMaxOrder) * kLanes], sums[kMaxOrder + 1][kLanes] = {};
    for (; first < steps; first += kAtOnce) {
        const std::size_t count = steps - first < kAtOnce ? steps - first : kAtOnce;
        const T* const from = v + (first - order) * kLanes;
        for (std::size_t i = 0; i < (count + order) * kLanes; ++i) window[i] = static_cast<double>(from[i]);
        for (std::size_t j = 0; j <= order; ++j) {
            for (std::size_t half = 0; half < kLanes; half += 4) {  // as many as fit the registers of all
                Four sum = Four::load(sums[j] + half);
                for (std::size_t t = order; t < count + order; ++t) {
                    const double* const x = window + t * kLanes + half;
                    sum.add(Four::load(x), Four::load(x - j * kLanes));
                }
                sum.store(sums[j] + half);
            }
        }
    }
    for (std::size_t j = 0; j <= order; ++j) {
        const double* const x = sums[j];
        found[j] = ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
    }
}

template <typename T>
T largest(const T* v, std::size_t count) {
    T found = 0;
    for (std::size_t i = 0; i < count; ++i) found = v[i] > found ? v[i] : found;
    return found;
}
