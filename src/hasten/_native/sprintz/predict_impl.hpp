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
    if (!twice) {
        if (known) {
            for (std::size_t i = kLanes; i < kLanes * steps; ++i) z[i] = zigzag(static_cast<T>(v[i] - v[i - kLanes]));
            return;
        }
        T x[kLanes];
        for (std::size_t l = 0; l < kLanes; ++l) x[l] = v[l];
        for (std::size_t t = 1; t < steps; ++t) {
            for (std::size_t l = 0; l < kLanes; ++l) {
                x[l] = static_cast<T>(x[l] + unzigzag(z[t * kLanes + l]));
                v[t * kLanes + l] = x[l];
            }
        }
        return;
    }
    for (std::size_t t = 2; t < steps; ++t) {
        for (std::size_t l = 0; l < kLanes; ++l) {
            const std::size_t i = t * kLanes + l;
            const T predicted = static_cast<T>(2 * v[i - kLanes] - v[i - 2 * kLanes]);
            if (known) {
                z[i] = zigzag(static_cast<T>(v[i] - predicted));
            } else {
                v[i] = static_cast<T>(predicted + unzigzag(z[i]));
            }
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

// Linear prediction from the last `order` values.
template <typename T, bool known, unsigned order>
void linear(T* v, T* z, std::size_t steps, const int16_t* coefficients) {
    using Wide = typename WideOf<T>::type;
    using U = UnsignedOf<Wide>;
    warm_up<T, known>(v, z, steps, order);
    U c[order];
    for (unsigned j = 0; j < order; ++j) c[j] = static_cast<U>(Wide{coefficients[j]});
    if (known) {
        for (std::size_t i = kLanes * order; i < kLanes * steps; ++i) {
            U sum = 2048;
            for (unsigned j = 0; j < order; ++j) sum += c[j] * static_cast<U>(v[i - kLanes * (j + 1)]);
            z[i] = zigzag(static_cast<T>(v[i] - static_cast<T>(static_cast<Wide>(sum) >> 12)));
        }
        return;
    }
    constexpr std::size_t kAtOnce = 64;
    U window[(kAtOnce + order) * kLanes];  // the last values, wide: those before the next step
    for (std::size_t first = order; first < steps; first += kAtOnce) {
        const std::size_t count = steps - first < kAtOnce ? steps - first : kAtOnce;
        for (std::size_t i = 0; i < order * kLanes; ++i) window[i] = v[(first - order) * kLanes + i];
        for (std::size_t t = 0; t < count; ++t) {
            U* const next = window + (t + order) * kLanes;
            U sum[kLanes];
            for (std::size_t l = 0; l < kLanes; ++l) sum[l] = 2048;
            for (unsigned j = order; j-- > 0;) {  // the most recent value last: it is the one that is waited for
                for (std::size_t l = 0; l < kLanes; ++l) sum[l] += c[j] * next[l - kLanes * (j + 1)];
            }
            for (std::size_t l = 0; l < kLanes; ++l) {
                const T e = unzigzag(z[(first + t) * kLanes + l]);
                const T x = static_cast<T>(static_cast<T>(static_cast<Wide>(sum[l]) >> 12) + e);
                v[(first + t) * kLanes + l] = x;
                next[l] = x;
            }
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

// In double, each lane for itself: the order of the additions is part of the format's determinism, not of its bytes.
template <typename T>
void products(const T* v, std::size_t first, std::size_t steps, std::size_t order, double* found) {
    for (std::size_t j = 0; j <= order; ++j) {
        double sums[kLanes] = {};
        for (std::size_t t = first; t < steps; ++t) {
            for (std::size_t l = 0; l < kLanes; ++l) {
                sums[l] += static_cast<double>(v[t * kLanes + l]) * static_cast<double>(v[(t - j) * kLanes + l]);
            }
        }
        found[j] = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    }
}
