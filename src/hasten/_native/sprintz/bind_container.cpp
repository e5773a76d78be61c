#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <optional>
#include <vector>

#include "../require_isa.hpp"
#include "bind.hpp"
#include "buffer.hpp"
#include "crc32c.hpp"
#include "stats.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace hasten::sprintz {
namespace {

using AnyBlock = nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu>;
using AnyList = nb::ndarray<nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using List = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

uint32_t bind_crc32c(nb::handle from, uint32_t crc, const char* isa) {
    const auto kernel = crc32c.pick(require_isa(isa));
    const ByteView data(from);
    nb::gil_scoped_release release;
    return kernel(crc, data.data(), data.size());
}

std::optional<Number> number_of(nb::dlpack::dtype dtype) {
    int log2_bytes = 0;
    while (log2_bytes < 4 && (8 << log2_bytes) != dtype.bits) ++log2_bytes;
    if (log2_bytes > 3 || dtype.lanes != 1) return std::nullopt;
    const auto code = static_cast<nb::dlpack::dtype_code>(dtype.code);
    if (code == nb::dlpack::dtype_code::Int) return static_cast<Number>(static_cast<int>(Number::i8) + log2_bytes);
    if (code == nb::dlpack::dtype_code::UInt) return static_cast<Number>(static_cast<int>(Number::u8) + log2_bytes);
    if (code != nb::dlpack::dtype_code::Float || log2_bytes < 2) return std::nullopt;
    return log2_bytes == 2 ? Number::f32 : Number::f64;
}

void bind_stats(const AnyBlock& block, const AnyList& low, const AnyList& high, const List<uint64_t>& sum_low,
                const List<int64_t>& sum_high, const List<uint32_t>& nulls, const char* isa) {
    const auto type = number_of(block.dtype());
    const std::size_t columns = block.shape(1);
    if (!type) throw nb::value_error("column_stats: the block has no dtype that columns may have");
    if (low.dtype() != block.dtype() || high.dtype() != block.dtype()) {
        throw nb::value_error("column_stats: low and high must have the block's dtype");
    }
    for (const std::size_t size : {low.shape(0), high.shape(0), sum_low.shape(0), sum_high.shape(0), nulls.shape(0)}) {
        if (size != columns) throw nb::value_error("column_stats: one result for each column, no more and no fewer");
    }
    if (block.shape(0) == 0) throw nb::value_error("column_stats: a block without rows");
    const Block rows = {block.data(), *type, block.shape(0), columns, block.stride(0), block.stride(1)};
    const Stats stats = {low.data(), high.data(), sum_low.data(), sum_high.data(), nulls.data()};
    const auto kernel = column_stats.pick(require_isa(isa));
    std::vector<double> scratch(stats_scratch(rows));
    nb::gil_scoped_release release;
    kernel(rows, stats, scratch.data());
}

}  // namespace

void bind_container(nb::module_& m) {
    m.def("crc32c", &bind_crc32c, "data"_a, "crc"_a, "isa"_a,
          "CRC-32C (Castagnoli) of a contiguous buffer, going on from `crc` (sprintz/crc32c.hpp).");
    m.def("column_stats", &bind_stats, "block"_a.noconvert(), "low"_a.noconvert(), "high"_a.noconvert(),
          "sum_low"_a.noconvert(), "sum_high"_a.noconvert(), "nulls"_a.noconvert(), "isa"_a,
          "Minimum, maximum, sum and number of NaN of each column of a block (sprintz/stats.hpp).");
}

}  // namespace hasten::sprintz
