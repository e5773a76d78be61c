// How a stream is cut into slots, read from bytes that nobody vouches for.
#pragma once

#include "v0.hpp"
#include "v0_lanes.hpp"

namespace hasten::sprintz::v0 {

constexpr std::size_t kHeader = 8;
constexpr std::size_t kSlack = 8;  // what packing may write, and unpacking read, beyond the end

template <typename T>
constexpr std::size_t fields_bytes(std::size_t columns) {
    return (2 * columns * kFieldBits<T> + 7) / 8;
}

constexpr std::size_t row_bytes(std::size_t bits) { return (bits + 7) / 8; }

// Bytes of a block, from the sum of its widths.
template <typename T>
constexpr std::size_t block_bytes(std::size_t bits, std::size_t columns) {
    return is_narrow<T>(columns) ? bits : kRows * row_bytes(bits);
}

// One slot of a stream: a block, or a run where bits is 0.
struct Slot {
    const uint8_t *widths, *payload;
    std::size_t bits, bytes, run;
};

// Walks the slots of a stream. What it hands out lies inside the stream and within the allowed number of elements.
template <typename T>
class Slots {
public:
    Slots(const uint8_t* data, std::size_t size, std::size_t max_elements)
        : data_(data), size_(size), max_elements_(max_elements) {}

    // Reads the header. False says that something is wrong, and outcome what; next() says it at the end, too.
    bool open() {
        if (size_ < kHeader) return fail(size_, "the stream ends inside its header");
        groups_ = load<uint32_t>(data_);
        remaining_ = load<uint16_t>(data_ + 4);
        outcome.columns = load<uint16_t>(data_ + 6);
        at_ = kHeader;
        if (outcome.columns == 0) return fail(6, "a stream has at least one column");
        if (remaining_ % outcome.columns != 0) return fail(4, "the elements that remain are no whole rows");
        fields_ = fields_bytes<T>(outcome.columns);
        room_ = max_elements_ / (kRows * outcome.columns);
        return true;
    }

    // `widths` has room for two slots and 8 bytes more, and is the same at each call.
    bool next(Slot& slot, uint8_t* widths) {
        if (slot_ == 2) {
            if (groups_ == 0) return false;
            if (!read_fields(widths)) return false;
            --groups_;
            slot_ = 0;
        }
        slot.widths = widths + slot_ * outcome.columns;
        slot.bits = bits_[slot_++];
        return slot.bits > 0 ? take_block(slot) : take_run(slot);
    }

    // After the last slot.
    bool close() {
        const std::size_t bytes = remaining_ * sizeof(T), there = size_ - at_;
        if (there < bytes) return fail(size_, "the stream ends inside the elements that remain");
        if (there > bytes) return fail(at_ + bytes, "the stream ends here, and more bytes follow");
        if (remaining_ > max_elements_ - outcome.elements) return fail(4, kTooMany);
        outcome.elements += remaining_;
        return true;
    }

    std::size_t remaining() const { return remaining_; }
    const uint8_t* rest() const { return data_ + at_; }
    std::size_t bytes_behind(const Slot& slot) const {
        return size_ - static_cast<std::size_t>(slot.payload - data_) - slot.bytes;
    }

    Outcome outcome;

private:
    static constexpr const char* kTooMany = "the stream holds more elements than are allowed";

    bool fail(std::size_t offset, const char* reason) {
        outcome.offset = offset;
        outcome.reason = reason;
        return false;
    }

    bool read_fields(uint8_t* widths) {
        if (size_ - at_ < fields_) return fail(at_, "the stream ends inside the widths of a group");
        const std::size_t columns = outcome.columns;
        const uint8_t* at = data_ + at_;
        uint64_t lanes = 0;
        bool seven = false;
        for (std::size_t done = 0; done < 2 * columns; done += 8, at += kFieldBits<T>) {
            lanes = widths_of<T>(load_fields(at, 2 * columns - done));
            store(widths + done, lanes);
            seven |= sizeof(T) == 2 && has_lane(lanes, 7);
        }
        if (is_narrow<T>(columns)) {  // all of them in one word
            bits_[0] = sum_bytes(lanes << (64 - 8 * columns));
            bits_[1] = sum_bytes(lanes >> 8 * columns);
        } else {
            if (seven) return fail(at_, "wide rows of 16 bits have no width 7");
            bits_[0] = sum_bytes(widths, columns);
            bits_[1] = sum_bytes(widths + columns, columns);
        }
        at_ += fields_;
        return true;
    }

    // Eight fields, or `count` and zeros.
    uint64_t load_fields(const uint8_t* at, std::size_t count) const {
        uint32_t word = 0;
        if (data_ + size_ - at >= 4) {
            word = load<uint32_t>(at);
        } else {
            for (unsigned shift = 0; at < data_ + size_; shift += 8) word |= uint32_t{*at++} << shift;
        }
        return count < 8 ? word & ((uint32_t{1} << count * kFieldBits<T>) - 1) : word;
    }

    bool take_block(Slot& slot) {
        slot.bytes = block_bytes<T>(slot.bits, outcome.columns);
        if (size_ - at_ < slot.bytes) return fail(at_, "the stream ends inside a block");
        slot.payload = data_ + at_;
        slot.run = 0;
        return claim(slot, 1);
    }

    bool take_run(Slot& slot) {
        if (size_ == at_) return fail(at_, "the stream ends before the length of a run");
        slot.payload = data_ + at_;
        slot.run = data_[at_];
        slot.bytes = slot.run < 128 ? 1 : 2;
        if (size_ - at_ < slot.bytes) return fail(at_, "the stream ends inside the length of a run");
        if (slot.bytes == 2) slot.run = (slot.run & 127) | std::size_t{data_[at_ + 1]} << 7;
        return claim(slot, slot.run);
    }

    bool claim(const Slot& slot, std::size_t blocks) {
        if (blocks > room_) return fail(at_, kTooMany);
        at_ += slot.bytes;
        room_ -= blocks;
        outcome.elements += blocks * kRows * outcome.columns;
        return true;
    }

    const uint8_t* const data_;
    const std::size_t size_, max_elements_;
    std::size_t at_ = 0, remaining_ = 0, slot_ = 2;
    std::size_t fields_ = 0;  // bytes of the fields of a group
    std::size_t room_ = 0;    // blocks that may still come
    uint32_t groups_ = 0;
    std::size_t bits_[2] = {0, 0};  // sums of the widths of the group at hand
};

}  // namespace hasten::sprintz::v0
