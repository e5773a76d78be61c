// The kernels without Python, for a machine that is only emulated: answers the requests of one file in another
// (tests/_native/test_emulated*.py ask them). All numbers are little-endian.
//
//   driver REQUESTS ANSWERS
//   request   u8 what | u8 number of an instruction set that this machine has | its arguments
//   answer    u32 bytes | these
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../../../src/hasten/_native/checksum.hpp"
#include "../../../src/hasten/_native/sprintz/crc32c.hpp"
#include "../../../src/hasten/_native/sprintz/record.hpp"
#include "../../../src/hasten/_native/sprintz/stats.hpp"
#include "../../../src/hasten/_native/sprintz/v0.hpp"
#include "products.hpp"
#include "request.hpp"

namespace hasten {
namespace {

// 0, or 1 | u32 where | what is wrong
template <typename Offset>
Bytes verdict(Offset offset, const char* reason) {
    Bytes out = {static_cast<uint8_t>(reason != nullptr)};
    if (!reason) return out;
    put(out, offset, 4);
    out.insert(out.end(), reason, reason + std::strlen(reason));
    return out;
}

std::vector<Isa> isas() {
    std::vector<Isa> found;
    for (const char* const name : kIsaNames) {
        if (isa_available(*isa_from_name(name))) found.push_back(*isa_from_name(name));
    }
    return found;
}

Bytes names() {
    std::string all;
    for (const Isa isa : isas()) all += std::string(all.empty() ? "" : " ") + kIsaNames[static_cast<std::size_t>(isa)];
    if (sprintz::crc32c.pick(isas().back()) != sprintz::crc32c.scalar) all += " crc32";
    return Bytes(all.begin(), all.end());
}

// u8 effort | u8 1 + predictor | u8 1 + entropy | u8 cross | u32 rows | u8 columns | u8 itemsize of each | the columns
// -> for each column u32 bytes | its record
Bytes encode(Request& in, Isa isa) {
    sprintz::Options options;
    options.effort = static_cast<sprintz::Effort>(in.byte());
    options.predictor = in.byte() - 1;
    options.entropy = in.byte() - 1;
    options.cross = in.byte() != 0;
    const std::size_t rows = in.word(), count = in.byte();
    const Bytes itemsizes = in.data(count);
    std::vector<Bytes> data;
    std::vector<sprintz::Column> columns;
    for (const uint8_t itemsize : itemsizes) {
        data.push_back(in.data(rows * itemsize));
        columns.push_back({data.back().data(), itemsize, itemsize});
    }
    Bytes out;
    for (const Bytes& record : sprintz::encode_columns(columns, rows, options, sprintz::kernels_for(isa))) {
        put(out, record.size(), 4);
        put(out, record);
    }
    return out;
}

// u32 rows | u8 columns | u8 itemsize of each | u32 bytes of the body | these -> verdict, then the columns
Bytes decode(Request& in, Isa isa) {
    const std::size_t rows = in.word(), count = in.byte();
    const Bytes itemsizes = in.data(count), body = in.data(in.word());
    std::vector<Bytes> data;
    std::vector<sprintz::Target> targets;
    for (const uint8_t itemsize : itemsizes) {
        data.emplace_back(rows * itemsize);
        targets.push_back({data.back().data(), itemsize, itemsize});
    }
    try {
        const auto others = sprintz::decode_body(body.data(), body.size(), rows, targets, sprintz::kernels_for(isa));
        if (!others.empty()) return verdict(others.front(), "a record of another kind");
    } catch (const sprintz::Corrupt& error) {
        return verdict(error.offset, error.reason);
    }
    Bytes out = verdict(0, nullptr);
    for (const Bytes& column : data) put(out, column);
    return out;
}

// u32 crc | u32 bytes | these -> u32
Bytes crc32c(Request& in, Isa isa) {
    const uint32_t before = in.word();
    const Bytes data = in.data(in.word());
    Bytes out;
    put(out, sprintz::crc32c.pick(isa)(before, data.data(), data.size()), 4);
    return out;
}

// u32 bytes | these -> u64
Bytes checksum_of(Request& in, Isa isa) {
    const Bytes data = in.data(in.word());
    Bytes out;
    put(out, checksum.pick(isa)(data.data(), data.size()), 8);
    return out;
}

// u8 type | u8 itemsize | u32 rows | u32 columns | u8 column after column | the values
// -> minima, maxima, low and high halves of the sums, numbers of NaN
Bytes stats(Request& in, Isa isa) {
    const auto type = static_cast<sprintz::Number>(in.byte());
    const std::size_t itemsize = in.byte(), rows = in.word(), columns = in.word();
    const bool far = in.byte() != 0;
    const Bytes data = in.data(rows * columns * itemsize);
    const auto stride = [](std::size_t count) { return static_cast<std::ptrdiff_t>(count); };
    const sprintz::Block block = {data.data(), type, rows, columns, far ? 1 : stride(columns), far ? stride(rows) : 1};
    std::vector<uint64_t> low(columns), high(columns), sum_low(columns);  // of words: aligned for any type
    std::vector<int64_t> sum_high(columns);
    std::vector<uint32_t> nulls(columns);
    std::vector<double> scratch(sprintz::stats_scratch(block));
    const sprintz::Stats found = {low.data(), high.data(), sum_low.data(), sum_high.data(), nulls.data()};
    sprintz::column_stats.pick(isa)(block, found, scratch.data());
    Bytes out;
    for (const auto* const side : {&low, &high}) {
        const auto* const bytes = reinterpret_cast<const uint8_t*>(side->data());
        out.insert(out.end(), bytes, bytes + columns * itemsize);
    }
    for (std::size_t j = 0; j < columns; ++j) put(out, sum_low[j], 8);
    for (std::size_t j = 0; j < columns; ++j) put(out, static_cast<uint64_t>(sum_high[j]), 8);
    for (std::size_t j = 0; j < columns; ++j) put(out, nulls[j], 4);
    return out;
}

// u8 FIRE | u32 rows | u32 columns | the values -> a published stream
template <typename T>
Bytes v0_encode(Request& in) {
    const bool fire = in.byte() != 0;
    const std::size_t rows = in.word(), columns = in.word();
    const Bytes data = in.data(rows * columns * sizeof(T));
    Bytes out(sprintz::v0::bound<T>(rows, columns));
    out.resize(sprintz::v0::encode(reinterpret_cast<const T*>(data.data()), rows, columns, fire, out.data()));
    return out;
}

// u8 FIRE | u32 room for so many values | u32 bytes of the stream | these -> verdict, then the values
template <typename T>
Bytes v0_decode(Request& in) {
    const bool fire = in.byte() != 0;
    const std::size_t room = in.word();
    const Bytes data = in.data(in.word());
    Bytes values(room * sizeof(T));
    const auto found = sprintz::v0::decode(data.data(), data.size(), fire, reinterpret_cast<T*>(values.data()), room);
    Bytes out = verdict(found.offset, found.reason);
    if (found.reason) return out;
    values.resize(found.elements * sizeof(T));
    put(out, values);
    return out;
}

// u32 bytes | these -> their codes
Bytes huffman_encode(Request& in) {
    const Bytes data = in.data(in.word());
    Bytes out(sprintz::huffman::bound(data.size()));
    out.resize(sprintz::huffman::encode(data.data(), data.size(), out.data()));
    return out;
}

// u32 bytes of the result | u32 bytes | these -> verdict, then the result
Bytes huffman_decode(Request& in) {
    Bytes result(in.word());
    const Bytes data = in.data(in.word());
    const auto found = sprintz::huffman::decode(data.data(), data.size(), result.data(), result.size());
    Bytes out = verdict(found.offset, found.reason);
    if (!found.reason) put(out, result);
    return out;
}

Bytes answer(Request& in) {
    const uint8_t what = in.byte(), number = in.byte();
    static const std::vector<Isa> known = isas();
    if (number >= known.size()) stop("this machine has no such instruction set");
    const Isa isa = known[number];
    switch (what) {
        case 'i': return names();
        case 'e': return encode(in, isa);
        case 'd': return decode(in, isa);
        case 'c': return crc32c(in, isa);
        case 'k': return checksum_of(in, isa);
        case 's': return stats(in, isa);
        case '1': return v0_encode<uint8_t>(in);
        case '2': return v0_encode<uint16_t>(in);
        case '3': return v0_decode<uint8_t>(in);
        case '4': return v0_decode<uint16_t>(in);
        case 'h': return huffman_encode(in);
        case 'H': return huffman_decode(in);
        case 'm': return products(in, isa);
        case 'f': return filter_products(in, isa);
        default: stop("an unknown request");
    }
}

Bytes read(const char* path) {
    std::FILE* const file = std::fopen(path, "rb");
    if (!file) stop("the requests cannot be read");
    Bytes all;
    uint8_t part[1 << 16];
    while (const std::size_t count = std::fread(part, 1, sizeof part, file)) all.insert(all.end(), part, part + count);
    std::fclose(file);
    return all;
}

void write(const char* path, const Bytes& all) {
    std::FILE* const file = std::fopen(path, "wb");
    if (!file || std::fwrite(all.data(), 1, all.size(), file) != all.size() || std::fclose(file) != 0) {
        stop("the answers cannot be written");
    }
}

}  // namespace
}  // namespace hasten

int main(int argc, char** argv) {
    using namespace hasten;
    if (argc != 3) stop("driver REQUESTS ANSWERS");
    Request in(read(argv[1]));
    Bytes out;
    while (!in.is_over()) {
        const Bytes one = answer(in);
        put(out, one.size(), 4);
        put(out, one);
    }
    write(argv[2], out);
    return 0;
}
