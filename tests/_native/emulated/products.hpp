// Approximate products (tests/_native/test_emulated_maddness.py asks them).
//
// Arrays of any strides come as the memory that they lie in: u32 elements | these | u32 where the first one is | u32 each
// of the strides, in elements.
#pragma once

#include <algorithm>
#include <vector>

#include "../../../src/hasten/_native/maddness/product.hpp"
#include "request.hpp"

namespace hasten {
namespace {

constexpr std::size_t kTypeBytes[] = {4, 2, 1, 1};  // in the order of maddness::Type

struct Memory {
    Bytes bytes;
    std::size_t first;

    Memory(Request& in, std::size_t itemsize) : bytes(in.data(in.word() * itemsize)), first(in.word() * itemsize) {}
    uint8_t* data() { return bytes.data() + first; }
};

// u32 codebooks | u32 levels | columns | thresholds
struct AnyTrees {
    uint32_t codebooks, levels;
    std::vector<int32_t> dims;
    std::vector<float> thresholds;

    explicit AnyTrees(Request& in)
        : codebooks(in.word()), levels(in.word()), dims(in.numbers<int32_t>(codebooks * levels)),
          thresholds(in.numbers<float>(codebooks * maddness::kNodes)) {}
    maddness::Trees get() const { return {dims.data(), thresholds.data(), codebooks, levels}; }
};

// u32 outputs | u32 codebooks | u32 leaves | u32 group | entries | scale | offset
struct AnyTables {
    uint32_t outputs, codebooks, leaves, group;
    Bytes luts;
    std::vector<float> scale, offset;

    explicit AnyTables(Request& in)
        : outputs(in.word()), codebooks(in.word()), leaves(in.word()), group(in.word()),
          luts(in.data(std::size_t{outputs} * codebooks * leaves)), scale(in.numbers<float>(outputs)),
          offset(in.numbers<float>(outputs)) {}
    maddness::Tables get() const {
        return {luts.data(), outputs, codebooks, leaves, group, scale.data(), offset.data()};
    }
};

// trees | tables | memory of the result | strides of rows, outputs and images | u32 threads
// -> codes in planes, the memory after a scan of these, and after both at once
template <typename Source>
Bytes products_of(Request& in, const Source& x, std::size_t rows, std::size_t rows_of_image, Isa isa) {
    const AnyTrees trees(in);
    const AnyTables tables(in);
    Memory memory(in, sizeof(float));
    const auto row = in.word<int32_t>(), output = in.word<int32_t>(), image = in.word<int32_t>();
    const std::size_t threads = in.word();
    const Bytes before = memory.bytes;
    const maddness::Output to = {reinterpret_cast<float*>(memory.data()), row, output,
                                 std::max<std::size_t>(rows_of_image, 1), image};
    const auto layout = maddness::Layout::planes;

    Bytes out(maddness::code_bytes(rows, trees.codebooks));
    maddness::encode(x, trees.get(), layout, out.data(), isa, threads);
    const Bytes codes = out;
    maddness::scan(codes.data(), layout, rows, tables.get(), to, isa, threads);
    put(out, memory.bytes);
    std::copy(before.begin(), before.end(), memory.bytes.begin());
    maddness::multiply(x, trees.get(), layout, tables.get(), to, isa, threads);
    put(out, memory.bytes);
    return out;
}

// u32 type | u32 rows | u32 columns | memory | strides of rows and columns | what products_of takes
Bytes products(Request& in, Isa isa) {
    const std::size_t type = in.word(), rows = in.word(), columns = in.word();
    Memory memory(in, kTypeBytes[type]);
    const auto row = in.word<int32_t>(), column = in.word<int32_t>();
    const maddness::Matrix x = {memory.data(), static_cast<maddness::Type>(type), rows, columns, row, column};
    return products_of(in, x, rows, rows, isa);
}

// u32 type | u32 each of 4 sizes | memory | 4 strides | u32 each of 10 numbers of the filter | what products_of takes
Bytes filter_products(Request& in, Isa isa) {
    maddness::Patches x = {};
    const std::size_t type = in.word();
    x.type = static_cast<maddness::Type>(type);
    for (std::size_t* const size : {&x.images, &x.channels, &x.height, &x.width}) *size = in.word();
    Memory memory(in, kTypeBytes[type]);
    x.data = memory.data();
    for (std::ptrdiff_t* const stride : {&x.image_stride, &x.channel_stride, &x.line_stride, &x.pixel_stride}) {
        *stride = in.word<int32_t>();
    }
    for (std::size_t* const pair : {x.filter, x.stride, x.padding, x.dilation, x.places}) {
        pair[0] = in.word();
        pair[1] = in.word();
    }
    return products_of(in, x, x.rows(), x.places[0] * x.places[1], isa);
}

}  // namespace
}  // namespace hasten
