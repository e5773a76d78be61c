// The Huffman stage: a part of v0.cpp, in a file of its own for the reader.
//
//   bytes      blocks of 131072 bytes, the last one shorter
//   block      u8 kind | u32 length of what follows | that
//   stored     kind 0: the bytes
//   coded      kind 1: table | three u32, the lengths of the first three streams | four streams
//   repeated   kind 2: the one byte that the block consists of
//
//   table      32 bytes, a bit for each symbol that occurs (bit s % 8 of byte s / 8) | 4 bits for each of these, in the
//              order of the symbols: the length of its code, 1 to 11; the low half of a byte comes first
//   codes      canonical: shorter ones first, then by symbol, counted up from 0; complete
//   streams    q = ceil(size / 4) bytes of the block each, the last ones what is left; codes one after the other, each
//              from its highest bit down, into bytes from their lowest bit up; filled up to bytes
//
// Four streams give a decoder four chains of look-ups to run at the same time. With eleven bits the table of look-ups
// takes 4 KiB, and five codes come out of one 64-bit word.
//
// Lengths are those of package-merge (Larmore and Hirschberg, "A fast algorithm for optimal length-limited Huffman
// codes", J. ACM 37, 1990), symbols of one count ordered by value, a symbol before a package of the same weight.
#pragma once

#include <algorithm>
#include <array>

#include "v0.hpp"
#include "v0_bytes.hpp"

namespace hasten::sprintz::huffman {
namespace {

constexpr std::size_t kBlock = 131072, kBlockHeader = 5, kStreams = 4, kBitmap = 32, kStreamLengths = 12;
constexpr std::size_t kSlack = 8;
constexpr unsigned kMaxLength = 11;
enum Kind : uint8_t { stored, coded, repeated };

using Lengths = std::array<uint8_t, 256>;  // of codes; 0: the symbol does not occur
using Codes = std::array<uint16_t, 256>;   // the bits as they lie in a stream

// The bytes [first, last) of a block that stream k holds.
struct Part {
    std::size_t first, last;
    std::size_t size() const { return last - first; }
};

inline Part part(std::size_t size, std::size_t k) {
    const std::size_t quarter = (size + kStreams - 1) / kStreams;
    return {std::min(k * quarter, size), std::min((k + 1) * quarter, size)};
}

struct Histogram {
    std::array<std::array<uint32_t, 256>, kStreams> parts{};
    std::array<uint32_t, 256> total{};
    std::size_t symbols = 0;

    Histogram(const uint8_t* data, std::size_t size) {
        for (std::size_t k = 0; k < kStreams; ++k) {
            const Part bytes = part(size, k);
            for (std::size_t i = bytes.first; i < bytes.last; ++i) ++parts[k][data[i]];
        }
        for (std::size_t s = 0; s < 256; ++s) {
            for (const auto& counts : parts) total[s] += counts[s];
            symbols += total[s] != 0;
        }
    }
};

// Package-merge: level 0 holds the symbols by weight, each further one these again among the pairs of the level below.
// The 2 n - 2 lightest of the last level, and what their pairs are made of, name a symbol as often as its code is long.
inline Lengths code_lengths(const Histogram& histogram) {
    std::array<uint8_t, 256> symbols;
    std::size_t n = 0;
    for (std::size_t s = 0; s < 256; ++s) {
        if (histogram.total[s] != 0) symbols[n++] = static_cast<uint8_t>(s);
    }
    const auto weight = [&](std::size_t i) { return uint64_t{histogram.total[symbols[i]]}; };
    std::sort(symbols.begin(), symbols.begin() + n, [&](uint8_t a, uint8_t b) {
        return histogram.total[a] != histogram.total[b] ? histogram.total[a] < histogram.total[b] : a < b;
    });

    std::array<std::array<bool, 512>, kMaxLength> is_symbol;
    std::array<uint64_t, 512> below, level;
    std::size_t below_size = 0;
    for (auto& flags : is_symbol) {
        std::size_t size = 0;
        for (std::size_t symbol = 0, pair = 0; symbol < n || pair < below_size / 2; ++size) {
            const uint64_t pair_weight = pair < below_size / 2 ? below[2 * pair] + below[2 * pair + 1] : 0;
            flags[size] = symbol < n && (pair >= below_size / 2 || weight(symbol) <= pair_weight);
            level[size] = flags[size] ? weight(symbol++) : (++pair, pair_weight);
        }
        below = level;
        below_size = size;
    }

    Lengths lengths{};
    std::size_t taken = 2 * n - 2;
    for (std::size_t k = kMaxLength; k-- > 0;) {
        std::size_t named = 0;
        for (std::size_t i = 0; i < taken; ++i) {
            if (is_symbol[k][i]) ++lengths[symbols[named++]];
        }
        taken = 2 * (taken - named);
    }
    return lengths;
}

inline Codes canonical_codes(const Lengths& lengths) {
    Codes codes{};
    unsigned code = 0;
    for (unsigned length = 1; length <= kMaxLength; ++length, code <<= 1) {
        for (std::size_t s = 0; s < 256; ++s) {
            if (lengths[s] != length) continue;
            for (unsigned bit = 0; bit < length; ++bit) codes[s] |= (code >> bit & 1) << (length - 1 - bit);
            ++code;
        }
    }
    return codes;
}

// ---- encoding

inline std::size_t table_bytes(std::size_t symbols) { return kBitmap + (symbols + 1) / 2; }

inline uint8_t* put_table(const Lengths& lengths, uint8_t* out) {
    std::fill_n(out, kBitmap, uint8_t{0});
    BitWriter nibbles(out + kBitmap);
    for (std::size_t s = 0; s < 256; ++s) {
        if (lengths[s] == 0) continue;
        out[s / 8] = static_cast<uint8_t>(out[s / 8] | 1 << s % 8);
        nibbles.put(lengths[s], 4);
    }
    return nibbles.close();
}

inline void put_stream(const uint8_t* data, std::size_t size, const Lengths& lengths, const Codes& codes,
                       uint8_t* out) {
    uint64_t word = 0;
    unsigned filled = 0;
    for (std::size_t i = 0; i < size; ++i) {
        word |= uint64_t{codes[data[i]]} << filled;
        filled += lengths[data[i]];
        if (filled < 32 && i + 1 < size) continue;
        store(out, word);
        out += filled / 8;
        word >>= filled & ~7u;
        filled %= 8;
    }
}

inline std::size_t stream_bytes(const std::array<uint32_t, 256>& counts, const Lengths& lengths) {
    std::size_t bits = 0;
    for (std::size_t s = 0; s < 256; ++s) bits += std::size_t{counts[s]} * lengths[s];
    return (bits + 7) / 8;
}

inline uint8_t* put_header(Kind kind, std::size_t length, uint8_t* out) {
    *out = kind;
    store(out + 1, static_cast<uint32_t>(length));
    return out + kBlockHeader;
}

// Returns where the block ends.
inline uint8_t* put_block(const uint8_t* data, std::size_t size, uint8_t* out) {
    const Histogram histogram(data, size);
    if (histogram.symbols == 1) {
        out = put_header(repeated, 1, out);
        *out = data[0];
        return out + 1;
    }
    const Lengths lengths = code_lengths(histogram);
    std::array<std::size_t, kStreams> bytes;
    std::size_t total = table_bytes(histogram.symbols) + kStreamLengths;
    for (std::size_t k = 0; k < kStreams; ++k) total += bytes[k] = stream_bytes(histogram.parts[k], lengths);
    if (total >= size) {
        return std::copy_n(data, size, put_header(stored, size, out));
    }
    out = put_table(lengths, put_header(coded, total, out));
    for (std::size_t k = 0; k + 1 < kStreams; ++k, out += 4) store(out, static_cast<uint32_t>(bytes[k]));
    const Codes codes = canonical_codes(lengths);
    for (std::size_t k = 0; k < kStreams; out += bytes[k++]) {
        const Part of = part(size, k);
        put_stream(data + of.first, of.size(), lengths, codes, out);
    }
    return out;
}

// ---- decoding

constexpr std::size_t kEntries = std::size_t{1} << kMaxLength;
struct Entry {
    uint8_t symbol, length;
};
using Table = std::array<Entry, kEntries>;

// nullptr if it is a complete code, else what is wrong with it.
inline const char* make_table(const Lengths& lengths, Table& table) {
    std::size_t room = kEntries;
    for (const uint8_t length : lengths) {
        if (length == 0) continue;
        if (kEntries >> length > room) return "a code with more words than there is room for";
        room -= kEntries >> length;
    }
    if (room > 0) return "a code that is not complete";
    const Codes codes = canonical_codes(lengths);
    for (std::size_t s = 0; s < 256; ++s) {
        if (lengths[s] == 0) continue;
        for (std::size_t at = codes[s]; at < kEntries; at += std::size_t{1} << lengths[s]) {
            table[at] = {static_cast<uint8_t>(s), lengths[s]};
        }
    }
    return nullptr;
}

// One of the four streams while it is read.
struct Stream {
    const uint8_t* data;
    std::size_t size, bit = 0;

    bool has_word() const { return bit / 8 + 8 <= size; }
    uint64_t word() const { return load<uint64_t>(data + bit / 8) >> bit % 8; }

    // At least 17 bits; those behind the end are 0.
    uint32_t bits() const {
        uint32_t word = 0;
        for (std::size_t i = 0; i < 3 && bit / 8 + i < size; ++i) word |= uint32_t{data[bit / 8 + i]} << 8 * i;
        return word >> bit % 8;
    }

    bool is_used_up() const { return (bit + 7) / 8 == size; }
};

inline void get_streams(std::array<Stream, kStreams>& streams, const Table& table, std::size_t size, uint8_t* out) {
    constexpr std::size_t kAtOnce = 5;  // 5 codes of 11 bits, and 7 bits of the byte before: 62
    const std::size_t quarter = part(size, 0).size(), common = part(size, kStreams - 1).size();
    std::size_t done = 0;
    const auto has_word = [](const Stream& stream) { return stream.has_word(); };
    for (; done + kAtOnce <= common && std::all_of(streams.begin(), streams.end(), has_word); done += kAtOnce) {
        std::array<uint64_t, kStreams> words;
        for (std::size_t k = 0; k < kStreams; ++k) words[k] = streams[k].word();
        for (std::size_t i = done; i < done + kAtOnce; ++i) {
            for (std::size_t k = 0; k < kStreams; ++k) {
                const Entry entry = table[words[k] % kEntries];
                out[k * quarter + i] = entry.symbol;
                words[k] >>= entry.length;
                streams[k].bit += entry.length;
            }
        }
    }
    for (std::size_t k = 0; k < kStreams; ++k) {
        const Part rest = part(size, k);
        for (std::size_t i = rest.first + done; i < rest.last; ++i) {
            const Entry entry = table[streams[k].bits() % kEntries];
            out[i] = entry.symbol;
            streams[k].bit += entry.length;
        }
    }
}

// Reads the blocks of a sequence, checking everything.
class Reader {
public:
    Reader(const uint8_t* data, std::size_t size) : data_(data), size_(size) {}

    Outcome read(uint8_t* out, std::size_t out_size) {
        for (std::size_t done = 0; done < out_size;) {
            const std::size_t size = std::min(kBlock, out_size - done);
            if (!block(out + done, size)) return outcome_;
            done += size;
        }
        if (at_ != size_) fail(at_, "the blocks end here, and more bytes follow");
        return outcome_;
    }

private:
    bool fail(std::size_t offset, const char* reason) {
        outcome_.offset = offset;
        outcome_.reason = reason;
        return false;
    }

    bool block(uint8_t* out, std::size_t size) {
        if (size_ - at_ < kBlockHeader) return fail(at_, "the bytes end inside the header of a block");
        const uint8_t kind = data_[at_];
        const std::size_t length = load<uint32_t>(data_ + at_ + 1);
        if (size_ - at_ - kBlockHeader < length) return fail(at_ + 1, "a block is longer than the bytes that follow");
        const std::size_t start = at_ + kBlockHeader;
        at_ = start + length;
        if (kind == coded) return coded_block(start, out, size);
        if (kind > repeated) return fail(start - kBlockHeader, "an unknown kind of block");
        if (length != (kind == stored ? size : 1)) {
            return fail(start - 4, "a block has another length than its kind says");
        }
        if (kind == stored) {
            std::copy_n(data_ + start, size, out);
        } else {
            std::fill_n(out, size, data_[start]);
        }
        return true;
    }

    // The payload lies in [at, at_).
    bool coded_block(std::size_t at, uint8_t* out, std::size_t size) {
        const std::size_t start = at;
        Lengths lengths{};
        if (!read_lengths(at, lengths)) return false;
        Table table;
        if (const char* reason = make_table(lengths, table)) return fail(start, reason);
        if (at_ - at < kStreamLengths) return fail(at, "a block ends inside the lengths of its streams");
        const std::size_t lengths_at = at;
        std::array<Stream, kStreams> streams;
        at += kStreamLengths;
        for (std::size_t k = 0; k < kStreams; ++k) {
            const std::size_t left = at_ - at;
            const std::size_t bytes = k + 1 < kStreams ? load<uint32_t>(data_ + lengths_at + 4 * k) : left;
            if (bytes > left) return fail(lengths_at + 4 * k, "a stream is longer than its block");
            streams[k] = {data_ + at, bytes};
            at += bytes;
        }
        get_streams(streams, table, size, out);
        for (const Stream& stream : streams) {
            if (stream.is_used_up()) continue;
            return fail(static_cast<std::size_t>(stream.data - data_), "a stream has another length than its codes");
        }
        return true;
    }

    bool read_lengths(std::size_t& at, Lengths& lengths) {
        const std::size_t start = at;
        if (at_ - at < kBitmap) return fail(at, "a block ends inside its table");
        std::size_t symbols = 0;
        for (std::size_t s = 0; s < 256; ++s) {
            lengths[s] = data_[start + s / 8] >> s % 8 & 1;
            symbols += lengths[s];
        }
        if (at_ - at < table_bytes(symbols)) return fail(at, "a block ends inside its table");
        at += table_bytes(symbols);
        BitReader nibbles(data_ + start + kBitmap);
        for (uint8_t& length : lengths) {
            if (length == 0) continue;
            length = static_cast<uint8_t>(nibbles.get(4));
            if (length == 0 || length > kMaxLength) return fail(start, "a code of no length, or of more than 11 bits");
        }
        if (symbols % 2 == 1 && nibbles.get(4) != 0) return fail(at - 1, "half a byte that should be 0");
        return true;
    }

    const uint8_t* const data_;
    const std::size_t size_;
    std::size_t at_ = 0;
    Outcome outcome_;
};

}  // namespace

std::size_t bound(std::size_t size) { return size + (size + kBlock - 1) / kBlock * kBlockHeader + kSlack; }

std::size_t encode(const uint8_t* data, std::size_t size, uint8_t* out) {
    uint8_t* const start = out;
    for (std::size_t done = 0; done < size; done += kBlock) {
        out = put_block(data + done, std::min(kBlock, size - done), out);
    }
    return static_cast<std::size_t>(out - start);
}

Outcome decode(const uint8_t* data, std::size_t size, uint8_t* out, std::size_t out_size) {
    return Reader(data, size).read(out, out_size);
}

}  // namespace hasten::sprintz::huffman
