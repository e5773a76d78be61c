// Published Sprintz streams and their Huffman stage, seen from Python. hasten/codecs/sprintz/v0.py makes and checks the
// arrays; lengths are checked here too, since a wrong one would write beside memory.
#include <nanobind/ndarray.h>

#include "bind.hpp"
#include "v0.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace hasten::sprintz {
namespace {

template <typename T, int dimensions>
using Array = nb::ndarray<T, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;
using Bytes = Array<const uint8_t, 1>;
using Buffer = Array<uint8_t, 1>;

void require(bool fine, const char* what) {
    if (!fine) throw nb::value_error(what);
}

nb::object describe(const Outcome& outcome) {
    if (outcome.reason == nullptr) return nb::none();
    return nb::make_tuple(outcome.offset, outcome.reason);
}

std::size_t v0_bound(std::size_t rows, std::size_t columns, std::size_t itemsize) {
    return itemsize == 1 ? v0::bound<uint8_t>(rows, columns) : v0::bound<uint16_t>(rows, columns);
}

template <typename T>
std::size_t v0_encode(const Array<const T, 2>& x, bool fire, const Buffer& out) {
    const std::size_t rows = x.shape(0), columns = x.shape(1);
    require(columns >= 1 && columns <= v0::kMaxColumns, "sprintz_v0_encode: 1 to 65535 columns");
    require(out.size() >= v0::bound<T>(rows, columns), "sprintz_v0_encode: out is shorter than the bound");
    nb::gil_scoped_release release;
    return v0::encode(x.data(), rows, columns, fire, out.data());
}

nb::tuple v0_scan(const Bytes& data, std::size_t itemsize, std::size_t max_elements) {
    require(itemsize == 1 || itemsize == 2, "sprintz_v0_scan: an itemsize of 1 or 2");
    Outcome outcome;
    {
        nb::gil_scoped_release release;
        outcome = itemsize == 1 ? v0::scan<uint8_t>(data.data(), data.size(), max_elements)
                                : v0::scan<uint16_t>(data.data(), data.size(), max_elements);
    }
    return nb::make_tuple(outcome.columns, outcome.elements, describe(outcome));
}

template <typename T>
nb::tuple v0_decode(const Bytes& data, bool fire, const Array<T, 1>& out) {
    Outcome outcome;
    {
        nb::gil_scoped_release release;
        outcome = v0::decode(data.data(), data.size(), fire, out.data(), out.size());
    }
    return nb::make_tuple(outcome.elements, describe(outcome));
}

std::size_t huffman_encode(const Bytes& data, const Buffer& out) {
    require(out.size() >= huffman::bound(data.size()), "sprintz_huffman_encode: out is shorter than the bound");
    nb::gil_scoped_release release;
    return huffman::encode(data.data(), data.size(), out.data());
}

nb::object huffman_decode(const Bytes& data, const Buffer& out) {
    Outcome outcome;
    {
        nb::gil_scoped_release release;
        outcome = huffman::decode(data.data(), data.size(), out.data(), out.size());
    }
    return describe(outcome);
}

}  // namespace

void bind_v0(nb::module_& m) {
    m.def("sprintz_v0_bound", &v0_bound, "rows"_a, "columns"_a, "itemsize"_a,
          "Bytes that sprintz_v0_encode needs for a matrix.");
    m.def("sprintz_v0_encode", &v0_encode<uint8_t>, "x"_a.noconvert(), "fire"_a, "out"_a.noconvert(),
          "Writes a published stream (sprintz/v0.hpp); returns its length, or 0 if the format cannot hold the matrix.");
    m.def("sprintz_v0_encode", &v0_encode<uint16_t>, "x"_a.noconvert(), "fire"_a, "out"_a.noconvert());
    m.def("sprintz_v0_scan", &v0_scan, "data"_a.noconvert(), "itemsize"_a, "max_elements"_a,
          "(columns, elements, fault) of a stream; the fault is (offset, reason), or None.");
    m.def("sprintz_v0_decode", &v0_decode<uint8_t>, "data"_a.noconvert(), "fire"_a, "out"_a.noconvert(),
          "Decodes a stream of at most as many elements as out has; returns (elements, fault).");
    m.def("sprintz_v0_decode", &v0_decode<uint16_t>, "data"_a.noconvert(), "fire"_a, "out"_a.noconvert());
    m.def("sprintz_huffman_bound", &huffman::bound, "size"_a, "Bytes that sprintz_huffman_encode needs.");
    m.def("sprintz_huffman_encode", &huffman_encode, "data"_a.noconvert(), "out"_a.noconvert(),
          "Writes blocks of canonical Huffman codes (sprintz/v0_huffman.hpp); returns their length.");
    m.def("sprintz_huffman_decode", &huffman_decode, "data"_a.noconvert(), "out"_a.noconvert(),
          "Decodes exactly what out has room for; returns the fault, or None.");
}

}  // namespace hasten::sprintz
