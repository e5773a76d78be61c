// Columns that explain a part of others, as the leads of an ECG do. Part of record_encode.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "record.hpp"
#include "typed.hpp"

namespace hasten::sprintz {
namespace {

struct References {
    std::size_t count = 0;
    std::size_t columns[kMaxReferences] = {};
    int16_t coefficients[kMaxReferences] = {};
};

// Products of the differences from row to row of all pairs of columns near each other, on eight parts of a chunk.
class Crossing {
public:
    Crossing(const std::vector<Column>& columns, const std::vector<const uint8_t*>& values, std::size_t rows)
        : columns_(columns) {
        constexpr std::size_t kParts = 8, kRows = 256;
        std::vector<std::vector<double>> differences(columns.size());
        for (std::size_t j = 0; j < columns.size(); ++j) {
            if (!columns[j].data) continue;
            with_type(columns[j].itemsize, [&](auto zero) {
                using X = decltype(zero);
                if constexpr (sizeof(X) == 2 || sizeof(X) == 4) {
                    const X* const x = reinterpret_cast<const X*>(values[j]);
                    for (std::size_t part = 0; part < kParts; ++part) {
                        const std::size_t first = rows / kParts * part;
                        const std::size_t last = std::min(first + kRows, rows / kParts * (part + 1));
                        for (std::size_t i = first + 1; i < last; ++i) {
                            differences[j].push_back(static_cast<double>(
                                static_cast<std::make_signed_t<X>>(static_cast<X>(x[i] - x[i - 1]))));
                        }
                    }
                }
            });
        }
        products_.resize(columns.size());
        for (std::size_t j = 0; j < columns.size(); ++j) {
            for (std::size_t c = j - std::min(j, kNear); c <= j; ++c) {
                double sum = 0;
                if (columns[c].itemsize == columns[j].itemsize && differences[c].size() == differences[j].size()) {
                    for (std::size_t i = 0; i < differences[j].size(); ++i) sum += differences[j][i] * differences[c][i];
                }
                products_[j].push_back(sum);
            }
        }
    }

    // The `count` earlier columns that explain most of column j, one chosen after the other.
    References references(std::size_t j, std::size_t count) const {
        References found;
        double weights[kMaxReferences] = {};
        for (std::size_t k = 0; k < count; ++k) {
            double most = 0;
            std::size_t best = j;
            for (std::size_t c = j - std::min(j, kNear); c < j; ++c) {
                if (columns_[c].itemsize != columns_[j].itemsize || (k > 0 && c == found.columns[0])) continue;
                double trial[kMaxReferences];
                found.columns[k] = c;
                const double explained = solve(j, found.columns, k + 1, trial);
                if (explained <= most) continue;
                most = explained;
                best = c;
                std::copy_n(trial, k + 1, weights);
            }
            if (best == j) return found;
            found.columns[k] = best;
            found.count = k + 1;
        }
        for (std::size_t k = 0; k < found.count; ++k) {
            const double scaled = std::nearbyint(4096 * weights[k]);
            if (!(std::abs(scaled) <= 32767)) return {};
            found.coefficients[k] = static_cast<int16_t>(scaled);
        }
        return found;
    }

private:
    static constexpr std::size_t kNear = 32;  // columns before a column that it may refer to

    double product(std::size_t a, std::size_t b) const {
        const std::size_t j = std::max(a, b), c = std::min(a, b);
        return j - c > kNear ? 0 : products_[j][c - (j - std::min(j, kNear))];
    }

    // Least squares with one or two columns; returns how much of column j's energy they explain.
    double solve(std::size_t j, const std::size_t* columns, std::size_t count, double* weights) const {
        const double aa = product(columns[0], columns[0]), ja = product(j, columns[0]);
        if (count == 1) {
            if (!(aa > 0)) return 0;
            weights[0] = ja / aa;
            return ja * ja / aa;
        }
        const double bb = product(columns[1], columns[1]), ab = product(columns[0], columns[1]);
        const double jb = product(j, columns[1]), determinant = aa * bb - ab * ab;
        if (!(determinant > 1e-9 * aa * bb)) return 0;
        weights[0] = (ja * bb - jb * ab) / determinant;
        weights[1] = (jb * aa - ja * ab) / determinant;
        return weights[0] * ja + weights[1] * jb;
    }

    const std::vector<Column>& columns_;
    std::vector<std::vector<double>> products_;
};

template <typename X>
void subtract(const Kernels& kernels, const X* x, const std::vector<const uint8_t*>& columns,
              const References& references, std::size_t n, X* y) {
    const X* pointers[kMaxReferences];
    for (std::size_t k = 0; k < references.count; ++k) {
        pointers[k] = reinterpret_cast<const X*>(columns[references.columns[k]]);
    }
    if constexpr (sizeof(X) == 2) {
        kernels.less16(x, pointers, references.coefficients, references.count, n, y);
    } else {
        kernels.less32(x, pointers, references.coefficients, references.count, n, y);
    }
}

}  // namespace
}  // namespace hasten::sprintz
