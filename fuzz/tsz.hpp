// Columns of tsz bodies in memory, for the targets decode_tsz and roundtrip_tsz.
#pragma once

#include <algorithm>
#include <optional>
#include <utility>

#include "../src/hasten/_native/sprintz/record.hpp"
#include "fuzz.hpp"

namespace hasten::fuzz {

using sprintz::Column;
using sprintz::Corrupt;
using sprintz::Kernels;
using sprintz::Target;

// Every variant that this machine has, the scalar one first.
inline const std::vector<const Kernels*>& all_kernels() {
    static const std::vector<const Kernels*> all = [] {
        std::vector<const Kernels*> found;
        for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512vnni, Isa::neon}) {
            const Kernels* const kernels = isa_available(isa) ? &sprintz::kernels_for(isa) : nullptr;
            if (kernels && (found.empty() || found.back() != kernels)) found.push_back(kernels);
        }
        return found;
    }();
    return all;
}

enum class Layout : uint8_t { plain, backwards, gaps, unaligned };

// Memory for a column, laid out in one of the ways that NumPy knows.
class Place {
public:
    Place(std::size_t rows, std::size_t itemsize, Layout layout)
        : rows_(rows), itemsize_(itemsize), step_(layout == Layout::gaps ? itemsize + 3 : itemsize),
          memory_((layout == Layout::unaligned) + (rows ? (rows - 1) * step_ + itemsize : 0)),
          first_(layout == Layout::unaligned), stride_(static_cast<std::ptrdiff_t>(step_)) {
        if (layout != Layout::backwards || rows == 0) return;
        first_ = (rows - 1) * itemsize;
        stride_ = -stride_;
    }
    Target target() const { return {memory_.data() + first_, stride_, itemsize_}; }
    Column column() const { return {memory_.data() + first_, stride_, itemsize_}; }
    uint8_t* at(std::size_t row) const { return memory_.data() + first_ + static_cast<std::ptrdiff_t>(row) * stride_; }

    void set(std::size_t row, uint64_t value) {
        for (std::size_t k = 0; k < itemsize_; ++k) at(row)[k] = static_cast<uint8_t>(value >> 8 * k);
    }
    uint64_t get(std::size_t row) const {
        uint64_t value = 0;
        for (std::size_t k = 0; k < itemsize_; ++k) value |= uint64_t{at(row)[k]} << 8 * k;
        return value;
    }
    bool holds(const Place& other) const {
        for (std::size_t row = 0; row < rows_; ++row) {
            if (std::memcmp(at(row), other.at(row), itemsize_) != 0) return false;
        }
        return true;
    }
    bool is_clean_between() const {
        for (std::size_t row = 0; row + 1 < rows_ && step_ > itemsize_; ++row) {
            for (std::size_t k = itemsize_; k < step_; ++k) {
                if (at(row)[k] != 0xA5) return false;
            }
        }
        return true;
    }

private:
    std::size_t rows_, itemsize_, step_;
    Exact memory_;
    std::size_t first_;
    std::ptrdiff_t stride_;
};

// What a decoder may take for an input at a time: a copy of each column, since others may refer to it; residuals,
// lanes and two copies of the column at hand; and the tables of its code and its palette.
inline std::size_t allowance(std::size_t rows, const std::vector<Target>& columns) {
    std::size_t copies = 0, largest = 0;
    for (const Target& column : columns) {
        copies += 512 + rows * column.itemsize;
        largest = std::max(largest, column.itemsize);
    }
    return (std::size_t{128} << 10) + copies + (rows + 64) * (2 * std::max<std::size_t>(largest, 2) + 2 * largest);
}

// What is wrong with a body, if anything is. The columns it wants and could not read are in `others`.
inline std::optional<Corrupt> decode(const Exact& body, std::size_t rows, const std::vector<Target>& columns,
                                     const Kernels& kernels, std::vector<std::size_t>& others) {
    const Allowance limit(allowance(rows, columns));
    try {
        others = sprintz::decode_body(body.data(), body.size(), rows, columns, kernels);
        return std::nullopt;
    } catch (const Corrupt& error) {
        return error;
    }
}

inline Bytes body_of(const std::vector<Bytes>& records) {
    Bytes body;
    std::size_t end = 0;
    for (const Bytes& record : records) {
        end += record.size();
        for (unsigned k = 0; k < 4; ++k) body.push_back(static_cast<uint8_t>(end >> 8 * k));
    }
    for (const Bytes& record : records) body.insert(body.end(), record.begin(), record.end());
    return body;
}

}  // namespace hasten::fuzz
