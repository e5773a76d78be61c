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

using Square = double[kMaxOrder + 1][kMaxOrder + 1];

// phi[i][j], j >= i: the sum of v[t - i] v[t - j] over steps t from `order` on.
template <typename T>
void covariances(const Kernels& kernels, const T* v, std::size_t steps, std::size_t order, Square& phi) {
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
}

// Cholesky, with a little weight on small coefficients, so that a column without noise has a solution too. False: there
// is none.
inline bool solve(const Square& phi, std::size_t order, double* solution) {
    double lower[kMaxOrder][kMaxOrder];
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
    return true;
}

// Coefficients for `order` by least squares (the covariance method), in units of 2^-12. False: there are none.
template <typename T>
bool fit(const Kernels& kernels, const T* v, std::size_t steps, std::size_t order, int16_t* coefficients) {
    if (steps < 4 * order) return false;
    Square phi;
    covariances(kernels, v, steps, order, phi);
    double solution[kMaxOrder];
    if (!solve(phi, order, solution)) return false;
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

// Predictors tried on v, a sample of lanes.
template <typename T>
class Trial {
public:
    // `z`: room for residuals. A half is enough to compare predictors that learn nothing; coefficients come from all of it.
    Trial(const Kernels& kernels, const T* v, std::size_t steps, bool whole, T* z)
        : kernels_(kernels), v_(v), z_(z), steps_(steps), tried_(whole ? steps : std::min<std::size_t>(steps, 144)) {}

    const Choice<T>& best() const { return best_; }

    // A predictor must be better than the best so far by more than its handicap, in bits of a value.
    void attempt(Predictor predictor, double handicap = 0) {
        Prediction p;
        p.predictor = predictor;
        attempt(p, handicap);
    }
    void attempt_linear(uint8_t order, double handicap = 0) {
        Prediction p;
        p.predictor = Predictor::lpc;
        p.order = order;
        if (fit(kernels_, v_, steps_, order, p.coefficients)) attempt(p, handicap);
    }

private:
    void attempt(const Prediction& p, double handicap) {
        const std::size_t skipped = tried_ > 2 * kHistory ? kHistory : 0;
        lanes_of<T>(kernels_).residuals(v_, tried_, p, z_);
        const double bits = token_bits(kernels_, z_, skipped, tried_) / static_cast<double>((tried_ - skipped) * kLanes);
        if (bits + handicap >= best_.bits) return;
        best_.prediction = p;
        best_.bits = bits;
    }

    const Kernels& kernels_;
    const T* v_;
    T* z_;
    std::size_t steps_, tried_;
    Choice<T> best_;
};

// The best predictor for v, a sample of lanes. `z`: room for its residuals.
template <typename T>
Choice<T> choose(const Kernels& kernels, const Options& options, const T* v, std::size_t steps, T* z) {
    const bool max = options.effort == Effort::max;
    Trial<T> trial(kernels, v, steps, max, z);
    if (options.predictor == static_cast<int>(Predictor::lpc)) {
        for (const uint8_t order : {16, 8, 4, 2}) trial.attempt_linear(order);
        if (!std::isfinite(trial.best().bits)) trial.attempt(Predictor::delta);
        return trial.best();
    }
    if (options.predictor >= 0) {
        const Predictor p = static_cast<Predictor>(options.predictor);
        // FIRE is defined for 16 bits.
        trial.attempt(p == Predictor::fire && sizeof(T) > 2 ? Predictor::delta : p);
        return trial.best();
    }
    // What takes longer to decode must save something: in "balanced" a thirtieth.
    for (const Predictor p : {Predictor::delta, Predictor::none, Predictor::delta2}) trial.attempt(p, 0.001);
    trial.attempt_linear(8, max ? 0.005 : trial.best().bits / 30);
    if (max) {
        trial.attempt_linear(16, 0.005);
        trial.attempt_linear(4);
        for (const Predictor p : {Predictor::nlms4, Predictor::nlms2, Predictor::nlms1}) trial.attempt(p, 0.005);
        if (sizeof(T) == 2) trial.attempt(Predictor::fire, 0.005);
    }
    return trial.best();
}

}  // namespace
}  // namespace hasten::sprintz
