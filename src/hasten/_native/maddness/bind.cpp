#include "bind.hpp"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "../require_isa.hpp"
#include "product.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace hasten::maddness {
namespace {

using AnyArray = nb::ndarray<nb::ro, nb::device::cpu>;
using Dims = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Nodes = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Luts = nb::ndarray<const uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ReadCodes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::ndim<2>, nb::device::cpu>;
using Images = nb::ndarray<float, nb::ndim<3>, nb::device::cpu>;
using Numbers = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void need(bool good, const char* message) {
    if (!good) throw nb::value_error(message);
}

Type type_of(const AnyArray& x) {
    if (x.dtype() == nb::dtype<float>()) return Type::float32;
    if (x.dtype() == nb::dtype<uint16_t>()) return Type::bfloat16;
    if (x.dtype() == nb::dtype<int8_t>()) return Type::int8;
    need(x.dtype() == nb::dtype<uint8_t>(), "maddness: rows of float32, uint16 (bits of bfloat16), int8 or uint8");
    return Type::uint8;
}

Layout layout_from(int layout) {
    need(layout >= 0 && layout <= 2, "maddness: an unknown layout");
    return static_cast<Layout>(layout);
}

// Only these kernels know the layouts with four tables in a register.
void check_layout(Layout layout, Isa isa, std::size_t codebooks, std::size_t leaves) {
    const bool fits = isa == Isa::avx512vnni && leaves == 16;
    need(layout == Layout::planes || fits, "maddness: quads and quarters need 16 leaves and VBMI");
    need(layout != Layout::quads || codebooks % 4 == 0, "maddness: quads need a multiple of 4 codebooks");
}

template <typename Array>
std::ptrdiff_t stride(const Array& x, std::size_t axis) {
    return static_cast<std::ptrdiff_t>(x.stride(axis));
}

Matrix matrix_of(const AnyArray& x) {
    need(x.ndim() == 2, "maddness: rows of two dimensions");
    return {x.data(), type_of(x), x.shape(0), x.shape(1), stride(x, 0), stride(x, 1)};
}

// x: images; geometry: filter, stride, padding, dilation, places, each down and across.
Patches patches_of(const AnyArray& x, const Numbers& geometry) {
    need(x.ndim() == 4 && geometry.shape(0) == 10, "maddness: images of four dimensions, and ten numbers");
    Patches p = {x.data(), type_of(x), x.shape(0), x.shape(1), x.shape(2), x.shape(3),
                 stride(x, 0), stride(x, 1), stride(x, 2), stride(x, 3), {}, {}, {}, {}, {}};
    std::size_t* const to[] = {p.filter, p.stride, p.padding, p.dilation, p.places};
    for (std::size_t k = 0; k < 10; ++k) {
        const int64_t number = geometry.data()[k];
        const bool may_be_zero = k / 2 == 2 || k / 2 == 4;  // padding, places
        const bool in_range = number >= (may_be_zero ? 0 : 1) && number < (int64_t{1} << 31);
        need(in_range, "maddness: a number of the filter is out of range");
        to[k / 2][k % 2] = static_cast<std::size_t>(number);
    }
    return p;
}

Trees trees_of(const Dims& dims, const Nodes& nodes, std::size_t columns) {
    const std::size_t levels = dims.shape(1);
    need(levels >= 4 && levels <= kMaxLevels && dims.shape(0) > 0, "maddness: trees of 4 to 6 levels");
    need(nodes.shape(0) == dims.shape(0) && nodes.shape(1) == kNodes, "maddness: thresholds of another shape");
    const int32_t* const end = dims.data() + dims.size();
    const auto outside = [&](int32_t dim) { return dim < 0 || static_cast<std::size_t>(dim) >= columns; };
    need(std::none_of(dims.data(), end, outside), "maddness: a column that the rows do not have");
    return {dims.data(), nodes.data(), dims.shape(0), static_cast<unsigned>(levels)};
}

Tables tables_of(const Luts& luts, std::size_t group, const Floats& scale, const Floats& offset) {
    const std::size_t leaves = luts.shape(2), codebooks = luts.shape(1);
    need(leaves == 16 || leaves == 32 || leaves == 64, "maddness: tables of 16, 32 or 64 leaves");
    const bool one_each = scale.shape(0) == luts.shape(0) && offset.shape(0) == luts.shape(0);
    need(one_each, "maddness: a scale and an offset for each output");
    const bool known = group == 0 || group == 1 || group == 2 || group == 4 || group == 8 || group == 16;
    need(known && (group == 0 || codebooks % group == 0), "maddness: groups of 1 to 16 codebooks, a power of two");
    need(group == 0 || codebooks / group <= kMaxCodebooks, "maddness: too many groups");
    return {luts.data(), luts.shape(0), codebooks, leaves, group, scale.data(), offset.data()};
}

void check_fit(const Tables& tables, const Trees& trees) {
    const bool fits = tables.codebooks == trees.codebooks && tables.leaves == std::size_t{1} << trees.levels;
    need(fits, "maddness: tables of other trees");
}

Output output_of(const Out& out, std::size_t rows, const Tables& tables) {
    need(out.shape(0) == rows && out.shape(1) == tables.outputs, "maddness: an output of another shape");
    return {out.data(), stride(out, 0), stride(out, 1)};
}

template <typename Source>
void encode_into(const Source& x, std::size_t rows, const Trees& trees, int layout, const Codes& codes,
                 const char* isa_name, std::size_t threads) {
    const Isa isa = require_isa(isa_name);
    check_layout(layout_from(layout), isa, trees.codebooks, std::size_t{1} << trees.levels);
    need(codes.shape(0) == code_bytes(rows, trees.codebooks), "maddness: codes of another size");
    nb::gil_scoped_release release;
    encode(x, trees, layout_from(layout), codes.data(), isa, threads);
}

void bind_encode(const AnyArray& x, const Dims& dims, const Nodes& nodes, int layout, const Codes& codes,
                 const char* isa, std::size_t threads) {
    const Matrix rows = matrix_of(x);
    encode_into(rows, rows.rows, trees_of(dims, nodes, rows.columns), layout, codes, isa, threads);
}

void bind_encode_patches(const AnyArray& x, const Numbers& geometry, const Dims& dims, const Nodes& nodes, int layout,
                         const Codes& codes, const char* isa, std::size_t threads) {
    const Patches patches = patches_of(x, geometry);
    encode_into(patches, patches.rows(), trees_of(dims, nodes, patches.columns()), layout, codes, isa, threads);
}

void bind_scan(const ReadCodes& codes, std::size_t rows, int layout, const Luts& luts, std::size_t group,
               const Floats& scale, const Floats& offset, const Out& out, const char* isa_name, std::size_t threads) {
    const Tables tables = tables_of(luts, group, scale, offset);
    const Output to = output_of(out, rows, tables);
    const Isa isa = require_isa(isa_name);
    check_layout(layout_from(layout), isa, tables.codebooks, tables.leaves);
    need(codes.shape(0) == code_bytes(rows, tables.codebooks), "maddness: codes of another size");
    nb::gil_scoped_release release;
    scan(codes.data(), layout_from(layout), rows, tables, to, isa, threads);
}

void bind_multiply(const AnyArray& x, const Dims& dims, const Nodes& nodes, int layout, const Luts& luts,
                   std::size_t group, const Floats& scale, const Floats& offset, const Out& out, const char* isa_name,
                   std::size_t threads) {
    const Matrix rows = matrix_of(x);
    const Trees trees = trees_of(dims, nodes, rows.columns);
    const Tables tables = tables_of(luts, group, scale, offset);
    check_fit(tables, trees);
    const Output to = output_of(out, rows.rows, tables);
    const Isa isa = require_isa(isa_name);
    check_layout(layout_from(layout), isa, tables.codebooks, tables.leaves);
    nb::gil_scoped_release release;
    multiply(rows, trees, layout_from(layout), tables, to, isa, threads);
}

// For the benchmark: bytes looked up in a second, by shuffles alone and by the sums of a scan (floats are not made).
template <typename Work>
double per_second(Work&& work) {
    const auto begun = std::chrono::steady_clock::now();
    double done = 0, seconds = 0;
    while (seconds < 0.02) {
        done += static_cast<double>(work());
        seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    }
    return done / seconds;
}

double bind_shuffle_rate(const char* isa) {
    const Kernels& kernels = kernels_for(require_isa(isa));
    nb::gil_scoped_release release;
    return per_second([&] { return kernels.shuffles(1 << 16); });
}

double bind_sum_rate(const ReadCodes& codes, std::size_t rows, int layout, const Luts& luts, std::size_t group,
                     const char* isa_name) {
    const std::vector<float> ones(luts.shape(0), 1.0f);
    const Tables tables = {luts.data(), luts.shape(0), luts.shape(1), luts.shape(2), group, ones.data(), ones.data()};
    const Isa isa = require_isa(isa_name);
    check_layout(layout_from(layout), isa, tables.codebooks, tables.leaves);
    const bool fits = codes.shape(0) == code_bytes(rows, tables.codebooks) && tables.codebooks <= kMaxCodebooks;
    need(fits, "maddness: codes of another size");
    need(group == 0 || (group == 16 && tables.codebooks % 16 == 0), "maddness: groups of 16");
    need(tables.leaves == 16 || tables.leaves == 32 || tables.leaves == 64, "maddness: tables of 16, 32 or 64 leaves");
    nb::gil_scoped_release release;
    return per_second([&] { return sums_only(codes.data(), layout_from(layout), rows, tables, isa); });
}

// out: (images, outputs, places), any strides.
void bind_convolve(const AnyArray& x, const Numbers& geometry, const Dims& dims, const Nodes& nodes, int layout,
                   const Luts& luts, std::size_t group, const Floats& scale, const Floats& offset, const Images& out,
                   const char* isa_name, std::size_t threads) {
    const Patches patches = patches_of(x, geometry);
    const Trees trees = trees_of(dims, nodes, patches.columns());
    const Tables tables = tables_of(luts, group, scale, offset);
    check_fit(tables, trees);
    const std::size_t places = patches.places[0] * patches.places[1];
    need(out.shape(0) == patches.images && out.shape(1) == tables.outputs && out.shape(2) == places && places > 0,
         "maddness: an output of another shape");
    const Output to = {out.data(), stride(out, 2), stride(out, 1), places, stride(out, 0)};
    const Isa isa = require_isa(isa_name);
    check_layout(layout_from(layout), isa, tables.codebooks, tables.leaves);
    nb::gil_scoped_release release;
    multiply(patches, trees, layout_from(layout), tables, to, isa, threads);
}

int bind_layout(std::size_t leaves, bool exact, const char* isa) {
    return static_cast<int>(layout_for(require_isa(isa), leaves, exact));
}

}  // namespace

void bind_maddness(nb::module_& m) {
    m.attr("MADDNESS_ROWS") = kRows;
    m.attr("MADDNESS_NODES") = kNodes;
    m.def("maddness_layout", &bind_layout, "leaves"_a, "exact"_a, "isa"_a,
          "The layout of codes that is summed fastest.");
    m.def("maddness_encode", &bind_encode, "x"_a.noconvert(), "dims"_a.noconvert(), "nodes"_a.noconvert(), "layout"_a,
          "codes"_a.noconvert(), "isa"_a, "threads"_a, "Codes of rows of any strides (maddness/kernels.hpp).");
    m.def("maddness_encode_patches", &bind_encode_patches, "x"_a.noconvert(), "geometry"_a.noconvert(),
          "dims"_a.noconvert(), "nodes"_a.noconvert(), "layout"_a, "codes"_a.noconvert(), "isa"_a, "threads"_a,
          "Codes of the places of a filter in images (NCHW).");
    m.def("maddness_scan", &bind_scan, "codes"_a.noconvert(), "rows"_a, "layout"_a, "luts"_a.noconvert(), "group"_a,
          "scale"_a.noconvert(), "offset"_a.noconvert(), "out"_a.noconvert(), "isa"_a, "threads"_a,
          "Sums of the tables' entries, as floats.");
    m.def("maddness_shuffle_rate", &bind_shuffle_rate, "isa"_a, "Bytes that shuffles alone look up in a second.");
    m.def("maddness_sum_rate", &bind_sum_rate, "codes"_a.noconvert(), "rows"_a, "layout"_a, "luts"_a.noconvert(),
          "group"_a, "isa"_a, "Bytes that a scan looks up and adds in a second.");
    m.def("maddness_multiply", &bind_multiply, "x"_a.noconvert(), "dims"_a.noconvert(), "nodes"_a.noconvert(),
          "layout"_a, "luts"_a.noconvert(), "group"_a, "scale"_a.noconvert(), "offset"_a.noconvert(),
          "out"_a.noconvert(), "isa"_a, "threads"_a, "Both, a few rows at a time.");
    m.def("maddness_convolve", &bind_convolve, "x"_a.noconvert(), "geometry"_a.noconvert(), "dims"_a.noconvert(),
          "nodes"_a.noconvert(), "layout"_a, "luts"_a.noconvert(), "group"_a, "scale"_a.noconvert(),
          "offset"_a.noconvert(), "out"_a.noconvert(), "isa"_a, "threads"_a,
          "Both, of the places of a filter in images.");
}

}  // namespace hasten::maddness
