// How to encode a column: tried on a sample. Part of record_encode.cpp.
#pragma once

#include <cmath>
#include <limits>
#include <numeric>

#include "codes.hpp"
#include "record.hpp"
#include "typed.hpp"

namespace hasten::sprintz {
namespace {

// What becomes of a column before it is predicted.
struct Range {
    uint64_t base = 0, span = 0;
};

// The base above which the values take the fewest bits, with or without a sign.
template <typename X>
Range find_range(const Kernels& kernels, const X* x, std::size_t n) {
    X found[4];
    range_of<X>(kernels).range(x, n, found);
    const X span = static_cast<X>(found[1] - found[0]), signed_span = static_cast<X>(found[3] - found[2]);
    if (span < signed_span || (span == signed_span && found[0] <= found[2])) return {found[0], span};
    return {found[2], signed_span};
}

inline std::size_t narrowest(uint64_t span) { return span >> 8 == 0 ? 1 : span >> 16 == 0 ? 2 : span >> 32 == 0 ? 4 : 8; }

constexpr std::size_t kHistory = kMaxOrder;  // steps before a sample that its residuals may look at

// Steps [first, last) of the lanes: the same part of eight runs that lie all over the chunk.
struct Sample {
    std::size_t first, last;
    std::size_t steps() const { return last - first; }
};

inline Sample sample_of(std::size_t steps, Effort effort) {
    const std::size_t wanted = effort == Effort::max ? 1024 : 256;
    if (steps <= wanted) return {0, steps};
    return {(steps - wanted) / 2, (steps + wanted) / 2};
}

// Coefficients for `order` by least squares (the covariance method), in units of 2^-12. False: there are none.
template <typename T>
bool fit(const Kernels& kernels, const T* v, std::size_t steps, std::size_t order, int16_t* coefficients) {
    if (steps < 4 * order) return false;
    double phi[kMaxOrder + 1][kMaxOrder + 1];
    lanes_of<T>(kernels).products(v, order, steps, order, phi[0]);
    const auto row = [&](std::size_t t, std::size_t u) {
        double sum = 0;
        for (std::size_t l = 0; l < kLanes; ++l) {
            sum += static_cast<double>(v[t * kLanes + l]) * static_cast<double>(v[u * kLanes + l]);
        }
        return sum;
    };
    for (std::size_t i = 0; i < order; ++i) {  // the same sum one step earlier: one term goes, one comes
        for (std::size_t j = i; j < order; ++j) {
            phi[i + 1][j + 1] = phi[i][j] + row(order - 1 - i, order - 1 - j) - row(steps - 1 - i, steps - 1 - j);
        }
    }
    // Cholesky, with a little weight on small coefficients, so that a column without noise has a solution too.
    double lower[kMaxOrder][kMaxOrder], solution[kMaxOrder];
    const double ridge = 1e-9 * phi[0][0] + 1e-3;
    for (std::size_t i = 0; i < order; ++i) {
        for (std::size_t j = 0; j <= i; ++j) {
            double sum = phi[j + 1][i + 1] + (i == j ? ridge : 0);
            for (std::size_t k = 0; k < j; ++k) sum -= lower[i][k] * lower[j][k];
            if (i == j && !(sum > 0)) return false;
            lower[i][j] = i == j ? std::sqrt(sum) : sum / lower[j][j];
        }
    }
    for (std::size_t i = 0; i < order; ++i) {
        double sum = phi[0][i + 1];
        for (std::size_t k = 0; k < i; ++k) sum -= lower[i][k] * solution[k];
        solution[i] = sum / lower[i][i];
    }
    for (std::size_t i = order; i-- > 0;) {
        for (std::size_t k = i + 1; k < order; ++k) solution[i] -= lower[k][i] * solution[k];
        solution[i] /= lower[i][i];
    }
    for (std::size_t i = 0; i < order; ++i) {
        const double scaled = std::nearbyint(4096 * solution[i]);
        if (!(std::abs(scaled) <= 32767)) return false;
        coefficients[i] = static_cast<int16_t>(scaled);
    }
    return true;
}

// Bits that tokens would take for the residuals of steps [skipped, steps).
template <typename T>
double token_bits(const Kernels& kernels, const T* z, std::size_t skipped, std::size_t steps) {
    uint32_t counts[1][kMaxTokens] = {};
    codes_of<T>(kernels).count(z + skipped * kLanes, steps - skipped, Contexts{}, counts, nullptr);
    uint64_t raw = 0;
    for (std::size_t s = 32; s < Tokens<T>::count; ++s) {
        raw += counts[0][s] * uint64_t{5 + ((s - 32) >> Tokens<T>::top) - Tokens<T>::top};
    }
    const uint64_t bits = entropy_bits(counts[0], Tokens<T>::count) + (raw << kLogBits);
    return static_cast<double>(bits) / (1u << kLogBits);
}

template <typename T>
struct Choice {
    Prediction prediction;
    double bits = std::numeric_limits<double>::infinity();  // of a value
};

// The best predictor for v, a sample of lanes. `z`: room for its residuals.
template <typename T>
Choice<T> choose(const Kernels& kernels, const Options& options, const T* v, std::size_t steps, T* z) {
    Choice<T> best;
    // A half is enough to compare predictors that learn nothing; their coefficients come from all of it.
    const std::size_t tried = options.effort == Effort::max ? steps : std::min<std::size_t>(steps, 144);
    const std::size_t skipped = tried > 2 * kHistory ? kHistory : 0;
    const auto attempt = [&](Prediction p, double handicap) {
        lanes_of<T>(kernels).residuals(v, tried, p, z);
        const double bits = token_bits(kernels, z, skipped, tried) / static_cast<double>((tried - skipped) * kLanes);
        if (bits + handicap >= best.bits) return;
        best.prediction = p;
        best.bits = bits;
    };
    const auto attempt_linear = [&](uint8_t order, double handicap) {
        Prediction p;
        p.predictor = Predictor::lpc;
        p.order = order;
        if (fit(kernels, v, steps, order, p.coefficients)) attempt(p, handicap);
    };
    const auto simple = [](Predictor p) {
        Prediction prediction;
        prediction.predictor = p;
        return prediction;
    };
    if (options.predictor == static_cast<int>(Predictor::lpc)) {
        for (const uint8_t order : {16, 8, 4, 2}) attempt_linear(order, 0);
        if (std::isfinite(best.bits)) return best;
        attempt(simple(Predictor::delta), 0);
        return best;
    }
    if (options.predictor >= 0) {
        Predictor p = static_cast<Predictor>(options.predictor);
        if (p == Predictor::fire && sizeof(T) > 2) p = Predictor::delta;  // it is defined for 16 bits
        attempt(simple(p), 0);
        return best;
    }
    // What takes longer to decode must save something: in "balanced" a thirtieth.
    for (const Predictor p : {Predictor::delta, Predictor::none, Predictor::delta2}) attempt(simple(p), 0.001);
    attempt_linear(8, options.effort == Effort::max ? 0.005 : best.bits / 30);
    if (options.effort == Effort::max) {
        attempt_linear(16, 0.005);
        attempt_linear(4, 0.0);
        attempt(simple(Predictor::nlms4), 0.005);
        attempt(simple(Predictor::nlms2), 0.005);
        attempt(simple(Predictor::nlms1), 0.005);
        if (sizeof(T) == 2) attempt(simple(Predictor::fire), 0.005);
    }
    return best;
}

}  // namespace
}  // namespace hasten::sprintz
