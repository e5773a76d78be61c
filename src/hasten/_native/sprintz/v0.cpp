#include "v0.hpp"

#include <algorithm>
#include <limits>
#include <memory>

#include "v0_block.hpp"
#include "v0_huffman.hpp"
#include "v0_slots.hpp"

namespace hasten::sprintz::v0 {
namespace {

constexpr std::size_t kGroupRows = 2 * kRows, kMinElements = 128, kMaxRun = 32767;

// What a predictor carries from block to block, and room for one block. One allocation, all zero.
template <typename T>
struct Workspace {
    explicit Workspace(std::size_t columns)
        : memory_(new uint8_t[columns * (sizeof(Counter<T>) + sizeof(int16_t) + (4 + kRows) * sizeof(T) + 3) +
                              kRows * unpacked_row<T>(columns) * sizeof(T) + 2 * kSlack]()) {
        counter = take<Counter<T>>(columns);
        coefficient = take<int16_t>(columns);
        zeros = take<T>(columns);
        delta = take<T>(columns);
        gradient = take<T>(columns);
        any = take<T>(columns);
        errors = take<T>(kRows * unpacked_row<T>(columns));
        payload = take<uint8_t>(kRows * columns * sizeof(T) + kSlack);
        widths = take<uint8_t>(3 * columns + kSlack);
    }

    Counter<T>* counter;
    int16_t* coefficient;  // of wide rows
    T *zeros, *delta, *gradient, *any, *errors;
    uint8_t *payload, *widths;

private:
    template <typename U>
    U* take(std::size_t count) {
        U* const start = reinterpret_cast<U*>(memory_.get() + used_);
        used_ += count * sizeof(U);
        return start;
    }

    std::unique_ptr<uint8_t[]> memory_;
    std::size_t used_ = 0;
};

// What a block of wide rows does to the state: before its rows, and after them.
template <typename T>
void begin_wide(Workspace<T>& work, std::size_t columns) {
    for (std::size_t c = 0; c < columns; ++c) work.coefficient[c] = wide_coefficient<T>(work.counter[c]);
    std::fill_n(work.gradient, columns, T{0});
}

template <typename T>
void end_wide(Workspace<T>& work, std::size_t columns) {
    for (std::size_t c = 0; c < columns; ++c) work.counter[c] = learned<T>(work.counter[c], work.gradient[c]);
}

// ---- encoding

template <typename T, bool fire>
class Encoder {
public:
    Encoder(const T* x, std::size_t rows, std::size_t columns, uint8_t* out)
        : x_(x), left_(rows), columns_(columns), start_(out), out_(out + kHeader), work_(columns),
          previous_(work_.zeros), pending_(work_.widths + 2 * columns) {}

    std::size_t encode() {
        if (left_ * columns_ >= kMinElements) groups();
        const std::size_t remaining = left_ * columns_;
        if (remaining > kMaxRemaining || groups_ > std::numeric_limits<uint32_t>::max()) return 0;
        for (std::size_t i = 0; i < remaining; ++i, out_ += sizeof(T)) store(out_, x_[i]);
        store(start_, static_cast<uint32_t>(groups_));
        store(start_ + 4, static_cast<uint16_t>(remaining));
        store(start_ + 6, static_cast<uint16_t>(columns_));
        return static_cast<std::size_t>(out_ - start_);
    }

private:
    void groups() {
        std::size_t run = 0;  // blocks without an error that no slot holds yet
        while (slot_ > 0 || run > 0 || left_ >= kGroupRows) {
            const std::size_t bits = forecast();
            if (run > 0 && (bits > 0 || run == kMaxRun)) {
                put_run(run);
                run = 0;
            }
            if (bits > 0) put_block(bits);
            advance();
            if (bits > 0) continue;
            ++run;
            if (run_may_go_on()) continue;
            put_run(run);
            if (slot_ > 0) put_run(0);
            return;
        }
    }

    // The published encoders differ here, and so does what they leave over.
    bool run_may_go_on() const {
        return fire && !is_narrow<T>(columns_) ? left_ >= kGroupRows : left_ > kGroupRows;
    }

    void advance() {
        previous_ = x_ + (kRows - 1) * columns_;
        x_ += kRows * columns_;
        left_ -= kRows;
    }

    // The next block's errors and widths; returns the sum of the widths.
    std::size_t forecast() {
        if (is_narrow<T>(columns_)) {
            forecast_narrow();
        } else {
            forecast_wide();
        }
        std::size_t bits = 0;
        for (std::size_t c = 0; c < columns_; ++c) {
            const unsigned width = width_of(work_.any[c], is_narrow<T>(columns_));
            pending_[c] = static_cast<uint8_t>(width);
            bits += width;
        }
        return bits;
    }

    void forecast_narrow() {
        for (std::size_t c = 0; c < columns_; ++c) {
            work_.any[c] = narrow_errors<T, fire>(x_ + c, columns_, previous_[c], work_.delta[c], work_.counter[c],
                                                  work_.errors + c * kRows);
        }
    }

    void forecast_wide() {
        std::fill_n(work_.any, columns_, T{0});
        if (fire) begin_wide(work_, columns_);
        const T* previous = previous_;
        for (std::size_t i = 0; i < kRows; ++i) {
            const T* const x = x_ + i * columns_;
            T* const errors = work_.errors + i * columns_;
            if (fire) {
                const auto row = i % 2 == 1 ? fire_errors<T, true> : fire_errors<T, false>;
                row(x, previous, work_.coefficient, columns_, work_.delta, work_.gradient, errors, work_.any);
            } else {
                delta_errors(x, previous, columns_, errors, work_.any);
            }
            previous = x;
        }
        if (fire) end_wide(work_, columns_);
    }

    void put_block(std::size_t bits) {
        std::copy_n(pending_, columns_, open_slot());
        if (is_narrow<T>(columns_)) {
            uint8_t* at = out_;
            for (std::size_t c = 0; c < columns_; ++c) {
                narrow_pack(work_.errors + c * kRows, pending_[c], at);
                at += pending_[c];
            }
        } else {
            wide_pack(work_.errors, pending_, columns_, row_bytes(bits), out_);
        }
        out_ += block_bytes<T>(bits, columns_);
        close_slot();
    }

    void put_run(std::size_t blocks) {
        std::fill_n(open_slot(), columns_, uint8_t{0});
        *out_++ = static_cast<uint8_t>(blocks < 128 ? blocks : (blocks & 127) | 128);
        if (blocks >= 128) *out_++ = static_cast<uint8_t>(blocks >> 7);
        close_slot();
    }

    // Where the widths of the next slot belong.
    uint8_t* open_slot() {
        if (slot_ == 0) {
            fields_ = out_;
            out_ += fields_bytes<T>(columns_);
            ++groups_;
        }
        return work_.widths + slot_ * columns_;
    }

    void close_slot() {
        if (++slot_ < 2) return;
        BitWriter fields(fields_);
        for (std::size_t i = 0; i < 2 * columns_; ++i) {
            const unsigned width = work_.widths[i];
            fields.put(width - (width == kBits<T>), kFieldBits<T>);
        }
        fields.close();
        slot_ = 0;
    }

    const T* x_;
    std::size_t left_;  // rows
    const std::size_t columns_;
    uint8_t *const start_, *out_;
    Workspace<T> work_;
    const T* previous_;       // the row before the next block
    uint8_t* const pending_;  // widths of the block at hand
    uint8_t* fields_ = nullptr;
    uint64_t groups_ = 0;
    std::size_t slot_ = 0;
};

// ---- decoding

template <typename T, bool fire>
class Decoder {
public:
    Decoder(Slots<T>& slots, T* out)
        : slots_(slots), columns_(slots.outcome.columns), out_(out), work_(columns_), previous_(work_.zeros) {}

    void decode() {
        Slot slot{};
        while (slots_.next(slot, work_.widths)) {
            if (slot.bits == 0) {
                repeat(slot.run);
            } else if (is_narrow<T>(columns_)) {
                narrow_block(slot.widths, padded(slot));
            } else {
                wide_unpack(padded(slot), slot.widths, columns_, row_bytes(slot.bits), work_.errors);
                wide_rows();
            }
        }
        if (slots_.outcome.reason != nullptr || !slots_.close()) return;
        const uint8_t* const rest = slots_.rest();
        for (std::size_t i = 0; i < slots_.remaining(); ++i) out_[i] = load<T>(rest + i * sizeof(T));
    }

private:
    // The payload where some bytes more may be read: a copy, if the stream ends too soon.
    const uint8_t* padded(const Slot& slot) {
        if (slots_.bytes_behind(slot) >= kSlack) return slot.payload;
        std::copy_n(slot.payload, slot.bytes, work_.payload);
        return work_.payload;
    }

    void narrow_block(const uint8_t* widths, const uint8_t* payload) {
        for (std::size_t c = 0; c < columns_; ++c) {
            uint64_t errors[sizeof(T)];
            narrow_unpack<T>(payload, widths[c], errors);
            narrow_column(c, errors);
            payload += widths[c];
        }
        advance(kRows);
    }

    void narrow_column(std::size_t c, const uint64_t* errors) {
        if (fire) {
            narrow_fire_values(errors, previous_[c], work_.delta[c], work_.counter[c], out_ + c, columns_);
        } else {
            narrow_delta_values(errors, previous_[c], out_ + c, columns_);
        }
    }

    void wide_rows() {
        if (fire) begin_wide(work_, columns_);
        for (std::size_t i = 0; i < kRows; ++i) {
            const T* const errors = work_.errors + i * unpacked_row<T>(columns_);
            if (fire) {
                const auto row = i % 2 == 1 ? fire_values<T, true> : fire_values<T, false>;
                row(errors, previous_, work_.coefficient, columns_, work_.delta, work_.gradient, out_);
            } else {
                delta_values(errors, previous_, columns_, out_);
            }
            advance(1);
        }
        if (fire) end_wide(work_, columns_);
    }

    // Blocks without an error. Under FIRE they go on with the slope, which may end.
    void repeat(std::size_t blocks) {
        for (; fire && blocks > 0 && moving(); --blocks) coast();
        if (blocks == 0) return;
        T* const start = out_;
        const std::size_t total = blocks * kRows * columns_;
        std::copy_n(previous_, columns_, start);
        for (std::size_t done = columns_; done < total;) {
            const std::size_t now = std::min(done, total - done);
            std::copy_n(start, now, start + done);
            done += now;
        }
        advance(blocks * kRows);
    }

    bool moving() const {
        return std::any_of(work_.delta, work_.delta + columns_, [](T delta) { return delta != 0; });
    }

    void coast() {
        if (is_narrow<T>(columns_)) {
            const uint64_t none[sizeof(T)] = {};
            for (std::size_t c = 0; c < columns_; ++c) narrow_column(c, none);
            advance(kRows);
        } else {
            std::fill_n(work_.errors, kRows * unpacked_row<T>(columns_), T{0});
            wide_rows();
        }
    }

    void advance(std::size_t rows) {
        out_ += rows * columns_;
        previous_ = out_ - columns_;
    }

    Slots<T>& slots_;
    const std::size_t columns_;
    T* out_;
    Workspace<T> work_;
    const T* previous_;  // the row before out_
};

}  // namespace

template <typename T>
std::size_t bound(std::size_t rows, std::size_t columns) {
    return kHeader + rows / kGroupRows * fields_bytes<T>(columns) + rows * columns * sizeof(T) + kSlack;
}

template <typename T>
std::size_t encode(const T* x, std::size_t rows, std::size_t columns, bool fire, uint8_t* out) {
    if (fire) return Encoder<T, true>(x, rows, columns, out).encode();
    return Encoder<T, false>(x, rows, columns, out).encode();
}

template <typename T>
Outcome scan(const uint8_t* data, std::size_t size, std::size_t max_elements) {
    Slots<T> slots(data, size, max_elements);
    if (!slots.open()) return slots.outcome;
    const std::unique_ptr<uint8_t[]> widths(new uint8_t[2 * slots.outcome.columns + kSlack]);
    for (Slot slot{}; slots.next(slot, widths.get());) {
    }
    if (slots.outcome.reason == nullptr) slots.close();
    return slots.outcome;
}

template <typename T>
Outcome decode(const uint8_t* data, std::size_t size, bool fire, T* out, std::size_t max_elements) {
    Slots<T> slots(data, size, max_elements);
    if (!slots.open()) return slots.outcome;
    if (fire) {
        Decoder<T, true>(slots, out).decode();
    } else {
        Decoder<T, false>(slots, out).decode();
    }
    return slots.outcome;
}

template std::size_t bound<uint8_t>(std::size_t, std::size_t);
template std::size_t bound<uint16_t>(std::size_t, std::size_t);
template std::size_t encode(const uint8_t*, std::size_t, std::size_t, bool, uint8_t*);
template std::size_t encode(const uint16_t*, std::size_t, std::size_t, bool, uint8_t*);
template Outcome scan<uint8_t>(const uint8_t*, std::size_t, std::size_t);
template Outcome scan<uint16_t>(const uint8_t*, std::size_t, std::size_t);
template Outcome decode(const uint8_t*, std::size_t, bool, uint8_t*, std::size_t);
template Outcome decode(const uint8_t*, std::size_t, bool, uint16_t*, std::size_t);

}  // namespace hasten::sprintz::v0
