#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>

#include "../require_isa.hpp"
#include "bind.hpp"
#include "buffer.hpp"
#include "record.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace hasten::sprintz {
namespace {

Options options_of(int effort, int predictor, int entropy, bool cross) {
    if (effort < 0 || effort > 2 || predictor < -1 || predictor >= kPredictors || entropy < -1 || entropy > 2) {
        throw nb::value_error("tsz_encode: an unknown effort, predictor or entropy code");
    }
    return {static_cast<Effort>(effort), predictor, entropy, cross};
}

nb::list bind_encode(nb::sequence columns, int effort, int predictor, int entropy, bool cross, const char* isa) {
    std::vector<Buffer> buffers;
    std::vector<Column> from;
    for (nb::handle column : columns) {
        if (column.is_none()) {
            from.push_back({nullptr, 0, 0});
            continue;
        }
        buffers.emplace_back(column, false);
        const Buffer& buffer = buffers.back();
        if (buffer.size() != buffers.front().size()) throw nb::value_error("tsz_encode: columns of different lengths");
        from.push_back({buffer.data(), buffer.stride(), buffer.itemsize()});
    }
    const Options options = options_of(effort, predictor, entropy, cross);
    const Kernels& kernels = kernels_for(require_isa(isa));
    std::vector<Bytes> records(from.size());
    if (!buffers.empty()) {
        nb::gil_scoped_release release;
        records = encode_columns(from, buffers.front().size(), options, kernels);
    }
    nb::list found;
    for (const Bytes& record : records) found.append(nb::bytes(record.data(), record.size()));
    return found;
}

nb::object corrupt(const Corrupt& error) { return nb::make_tuple(error.offset, error.reason); }

nb::object bind_decode(nb::handle body, std::size_t rows, const std::vector<std::size_t>& itemsizes, nb::sequence out,
                       const char* isa) {
    static uint8_t nothing;  // an output without rows may have no address, and is wanted all the same
    const ByteView bytes(body, true);
    std::vector<Buffer> buffers;
    std::vector<Target> targets;
    for (const std::size_t itemsize : itemsizes) {
        if (itemsize != 1 && itemsize != 2 && itemsize != 4 && itemsize != 8) {
            throw nb::value_error("tsz_decode: items of 1, 2, 4 or 8 bytes");
        }
    }
    std::size_t j = 0;
    for (nb::handle column : out) {
        if (j == itemsizes.size()) throw nb::value_error("tsz_decode: more outputs than columns");
        Target target;
        target.itemsize = itemsizes[j++];
        if (!column.is_none()) {
            buffers.emplace_back(column, true);
            const Buffer& buffer = buffers.back();
            if (buffer.size() != rows || buffer.itemsize() != target.itemsize) {
                throw nb::value_error("tsz_decode: an output of another size than the column");
            }
            target.data = rows > 0 ? buffer.data() : &nothing;
            target.stride = buffer.stride();
        }
        targets.push_back(target);
    }
    if (j != itemsizes.size()) throw nb::value_error("tsz_decode: fewer outputs than columns");
    const Kernels& kernels = kernels_for(require_isa(isa));
    std::vector<std::size_t> others;
    std::optional<Corrupt> error;
    {
        nb::gil_scoped_release release;
        try {
            others = decode_body(bytes.data(), bytes.size(), rows, targets, kernels);
        } catch (const Corrupt& found) {
            error = found;
        }
    }
    if (error) return corrupt(*error);
    nb::list found;
    for (const std::size_t column : others) found.append(column);
    return found;
}

nb::object bind_decode_record(nb::handle record, nb::handle out, const char* isa) {
    const ByteView bytes(record, true);
    const Buffer buffer(out, true);
    const Target target = {buffer.data(), buffer.stride(), buffer.itemsize()};
    const Kernels& kernels = kernels_for(require_isa(isa));
    std::optional<Corrupt> error;
    {
        nb::gil_scoped_release release;
        try {
            decode_record(bytes.data(), bytes.size(), buffer.size(), target, kernels);
        } catch (const Corrupt& found) {
            error = found;
        }
    }
    return error ? corrupt(*error) : nb::none();
}

}  // namespace

void bind_record(nb::module_& m) {
    m.def("tsz_encode", &bind_encode, "columns"_a, "effort"_a, "predictor"_a, "entropy"_a, "cross"_a, "isa"_a,
          "The record of each column of a chunk, b'' for None (sprintz/record.hpp).");
    m.def("tsz_decode", &bind_decode, "body"_a, "rows"_a, "itemsizes"_a, "out"_a, "isa"_a,
          "Decode a chunk's body: the list of wanted columns of other kinds, or (offset, reason) if it is damaged.");
    m.def("tsz_decode_record", &bind_decode_record, "record"_a, "out"_a, "isa"_a,
          "Decode one record that refers to no other: None, or (offset, reason) if it is damaged.");
}

}  // namespace hasten::sprintz
