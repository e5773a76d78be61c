// What the fuzz targets share. A target is a file that defines seeds() and run(): libFuzzer runs it where the compiler has
// it (clang), driver.cpp everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size);

namespace hasten::fuzz {

using Bytes = std::vector<uint8_t>;

// What must hold, whatever the input.
inline void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "fuzz: %s\n", what);
    std::abort();
}

// What became of the inputs so far.
struct Tally {
    uint64_t ok = 0;
    std::map<std::string, uint64_t> refused;  // by the reason
    const char* last = nullptr;               // reason of the last input; nullptr: it was fine
    std::size_t most_bytes = 0;               // that one input had allocated at a time
    std::size_t thousandths = 0;              // of its allowance: the largest share that one input took
};
Tally& tally();
void count(const char* reason);

// While it lives, no more than so many bytes are allocated at a time, or the run ends.
class Allowance {
public:
    explicit Allowance(std::size_t bytes);
    ~Allowance();
    Allowance(const Allowance&) = delete;
    Allowance& operator=(const Allowance&) = delete;
};

// Memory of exactly so many bytes, so that AddressSanitizer sees the one before and the one behind.
class Exact {
public:
    explicit Exact(std::size_t size, uint8_t fill = 0xA5) : data_(new uint8_t[size]), size_(size) {
        std::memset(data_.get(), fill, size);
    }
    Exact(const uint8_t* from, std::size_t size) : data_(new uint8_t[size]), size_(size) {
        if (size) std::memcpy(data_.get(), from, size);
    }
    uint8_t* data() const { return data_.get(); }
    std::size_t size() const { return size_; }
    bool operator==(const Exact& other) const {
        return size_ == other.size_ && std::memcmp(data(), other.data(), size_) == 0;
    }

private:
    std::unique_ptr<uint8_t[]> data_;
    std::size_t size_;
};

// The head of an input; zeros behind its end.
class Input {
public:
    Input(const uint8_t* data, std::size_t size) : data_(data), size_(size) {}
    uint8_t byte() {
        if (size_ == 0) return 0;
        --size_;
        return *data_++;
    }
    unsigned word() {
        const unsigned low = byte();
        return low | unsigned{byte()} << 8;
    }
    const uint8_t* rest() const { return data_; }
    std::size_t left() const { return size_; }

private:
    const uint8_t* data_;
    std::size_t size_;
};

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the same numbers everywhere.
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        uint64_t z = state_ += 0x9E3779B97F4A7C15;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
        z = (z ^ z >> 27) * 0x94D049BB133111EB;
        return z ^ z >> 31;
    }
    std::size_t below(std::size_t end) { return end ? static_cast<std::size_t>(next() % end) : 0; }

private:
    uint64_t state_;
};

// ---- what a target defines

// Inputs that it takes without a complaint: what mutants are made of.
std::vector<Bytes> seeds();

// Why an input was refused; nullptr: it was fine. What must hold is a require().
const char* run(Input in);

}  // namespace hasten::fuzz
