// Requests as they are read, and answers as they are written. All numbers are little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

namespace hasten {
namespace {

using Bytes = std::vector<uint8_t>;

[[noreturn]] void stop(const char* why) {
    std::fprintf(stderr, "driver: %s\n", why);
    std::exit(1);
}

class Request {
public:
    explicit Request(Bytes bytes) : bytes_(std::move(bytes)) {}
    bool is_over() const { return at_ == bytes_.size(); }
    const uint8_t* take(std::size_t count) {
        if (bytes_.size() - at_ < count) stop("a request that is too short");
        at_ += count;
        return bytes_.data() + at_ - count;
    }
    template <typename Word = uint32_t>
    Word word() {
        std::make_unsigned_t<Word> value = 0;
        const uint8_t* const from = take(sizeof value);
        for (std::size_t k = 0; k < sizeof value; ++k) value |= static_cast<decltype(value)>(from[k]) << 8 * k;
        return static_cast<Word>(value);
    }
    uint8_t byte() { return *take(1); }
    template <typename T>
    std::vector<T> numbers(std::size_t count) {
        std::vector<T> found(count);
        const uint8_t* const from = take(count * sizeof(T));
        if (count > 0) std::memcpy(found.data(), from, count * sizeof(T));
        return found;
    }
    // Memory of its own: aligned, and with its end where an allocation ends.
    Bytes data(std::size_t size) {
        const uint8_t* const from = take(size);
        return Bytes(from, from + size);
    }

private:
    Bytes bytes_;
    std::size_t at_ = 0;
};

void put(Bytes& out, uint64_t value, std::size_t bytes) {
    for (std::size_t k = 0; k < bytes; ++k) out.push_back(static_cast<uint8_t>(value >> 8 * k));
}

void put(Bytes& out, const Bytes& more) { out.insert(out.end(), more.begin(), more.end()); }

}  // namespace
}  // namespace hasten
