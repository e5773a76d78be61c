// Published streams and Huffman blocks that nobody vouches for. scan() and decode() agree; what is decoded can be
// encoded, and comes back; too little room is refused.
//
//   input   u8 flags | u16 most elements | u16 a quarter of the bytes behind the Huffman code | the bytes
//   flags   bit 0: values of 16 bits; 1: FIRE; 2 and 3: 0 and 1 a stream, 2 Huffman blocks, 3 a stream in such blocks
#include "../src/hasten/_native/sprintz/v0.hpp"

#include <algorithm>

#include "series.hpp"

namespace hasten::fuzz {
namespace {

namespace v0 = sprintz::v0;
namespace huffman = sprintz::huffman;
using sprintz::Outcome;

// Of a decoder: some 50 bytes for each column that the stream says it has, whatever the rows.
std::size_t allowance(const Exact& stream) {
    const std::size_t columns = stream.size() < 8 ? 0 : stream.data()[6] | std::size_t{stream.data()[7]} << 8;
    return 1024 + 64 * columns;
}

template <typename T>
Outcome decode(const Exact& stream, bool fire, const Exact& out) {
    const Allowance limit(allowance(stream));
    return v0::decode(stream.data(), stream.size(), fire, reinterpret_cast<T*>(out.data()), out.size() / sizeof(T));
}

template <typename T>
Bytes encode(const T* x, std::size_t rows, std::size_t columns, bool fire) {
    const Exact out(v0::bound<T>(rows, columns));
    const std::size_t length = v0::encode(x, rows, columns, fire, out.data());
    require(length + 8 <= out.size(), "a stream is longer than its bound");
    return Bytes(out.data(), out.data() + length);
}

template <typename T>
const char* stream(const Exact& data, bool fire, std::size_t most) {
    Outcome scanned;
    {
        const Allowance limit(allowance(data));
        scanned = v0::scan<T>(data.data(), data.size(), most);
    }
    const Exact out(most * sizeof(T));
    const Outcome found = decode<T>(data, fire, out);
    const bool agree = (found.reason == nullptr) == (scanned.reason == nullptr) && found.offset == scanned.offset &&
                       found.elements == scanned.elements && found.columns == scanned.columns;
    require(agree, "scan and decode disagree");
    require(found.elements <= most, "more elements than are allowed");
    if (found.reason) {
        require(found.offset <= data.size(), "an offset behind the end");
        return found.reason;
    }
    require(found.elements % found.columns == 0, "no whole rows");
    if (found.elements > 0) {
        const Outcome less = decode<T>(data, fire, Exact((found.elements - 1) * sizeof(T)));
        require(less.reason != nullptr, "a stream fits less room than it needs");
    }
    const Exact x(out.data(), found.elements * sizeof(T));
    const std::size_t rows = found.elements / found.columns;
    const Bytes again = encode(reinterpret_cast<const T*>(x.data()), rows, found.columns, fire);
    if (again.empty()) return nullptr;  // the format cannot hold the matrix
    const Exact back(x.size());
    const Outcome last = decode<T>(Exact(again.data(), again.size()), fire, back);
    require(!last.reason && last.elements == found.elements && back == x, "what was decoded does not come back");
    return nullptr;
}

const char* blocks(const Exact& data, const Exact& out) {
    Outcome found;
    {
        const Allowance limit(0);
        found = huffman::decode(data.data(), data.size(), out.data(), out.size());
    }
    if (found.reason) {
        require(found.offset <= data.size(), "an offset behind the end");
        return found.reason;
    }
    const Exact coded(huffman::bound(out.size()));
    const std::size_t length = huffman::encode(out.data(), out.size(), coded.data());
    require(length + 8 <= coded.size(), "blocks are longer than their bound");
    const Exact back(out.size());
    const Exact again(coded.data(), length);
    require(!huffman::decode(again.data(), again.size(), back.data(), back.size()).reason && back == out,
            "what was decoded does not come back");
    return nullptr;
}

// ---- seeds

template <typename T>
Bytes matrix_stream(std::size_t rows, std::size_t columns, bool fire, Random& random) {
    std::vector<T> x(rows * columns);
    for (std::size_t j = 0; j < columns; ++j) {
        const auto values = series(static_cast<Series>(random.below(kSeries)), rows, sizeof(T), random);
        const std::size_t still = random.below(rows), end = still + random.below(rows - still + 1);
        for (std::size_t i = 0; i < rows; ++i) {
            x[i * columns + j] = static_cast<T>(values[i > still && i < end ? still : i]);
        }
    }
    return encode(x.data(), rows, columns, fire);
}

Bytes coded(const Bytes& data) {
    Bytes out(huffman::bound(data.size()));
    out.resize(huffman::encode(data.data(), data.size(), out.data()));
    return out;
}

Bytes seed(unsigned flags, std::size_t most, std::size_t quarter, const Bytes& data) {
    Bytes out;
    append(out, flags, 1);
    append(out, most, 2);
    append(out, quarter, 2);
    out.insert(out.end(), data.begin(), data.end());
    return out;
}

}  // namespace

std::vector<Bytes> seeds() {
    Random random(7);
    std::vector<Bytes> found;
    for (std::size_t k = 0; k < 240; ++k) {
        const unsigned flags = k % 4;
        const std::size_t rows = 1 + random.below(120), columns = 1 + random.below(k % 6 ? 9 : 40);
        Bytes stream = flags & 1 ? matrix_stream<uint16_t>(rows, columns, flags & 2, random)
                                 : matrix_stream<uint8_t>(rows, columns, flags & 2, random);
        const std::size_t most = rows * columns;
        found.push_back(seed(flags, most, 0, stream));
        while (stream.size() % 4) stream.pop_back();
        found.push_back(seed(flags | 8, most, stream.size() / 4, coded(stream)));
    }
    for (const std::size_t size : {0, 4, 400, 4000, 131072, 131076}) {
        Bytes data(size);
        for (uint8_t& byte : data) byte = static_cast<uint8_t>(random.below(2) ? random.below(5) : 0);
        found.push_back(seed(8, 0, size / 4, coded(data)));
        found.push_back(seed(8, 0, size / 4, coded(Bytes(size, 9))));
    }
    for (std::size_t k = 0; k < 60; ++k) {  // streams of a multiple of 4 bytes, in blocks
        const Bytes stream = matrix_stream<uint16_t>(16 * (1 + random.below(9)), 4, k & 1, random);
        const unsigned flags = 1 | (k & 1) << 1 | 12;
        if (stream.size() % 4 == 0) found.push_back(seed(flags, 1 << 14, stream.size() / 4, coded(stream)));
    }
    return found;
}

const char* run(Input in) {
    const unsigned flags = in.byte();
    const std::size_t most = in.word(), behind = 4 * in.word();
    const bool fire = flags & 2;
    const auto read = [&](const Exact& bytes) {
        return flags & 1 ? stream<uint16_t>(bytes, fire, most) : stream<uint8_t>(bytes, fire, most);
    };
    const Exact bytes(in.rest(), in.left());
    if (!(flags & 8)) return read(bytes);
    const Exact out(behind);
    const char* const reason = blocks(bytes, out);
    return !reason && flags & 4 ? read(out) : reason;
}

}  // namespace hasten::fuzz
