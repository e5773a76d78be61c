// Memory that is kept from one chunk to the next: fresh pages would cost a fifth of the time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels.hpp"

namespace hasten::sprintz {

// Pieces are handed out in order and taken back in the reverse order, by marks.
class Scratch {
public:
    // Room for `count` T, and kSlack bytes; what is in it is anything.
    template <typename T>
    T* take(std::size_t count) {
        if (used_ == pieces_.size()) pieces_.push_back({nullptr, 0});
        Piece& piece = pieces_[used_];
#if defined(HASTEN_SANITIZED)
        // Anew each time, with its end where it belongs, and other bytes in it: who reads what was never written gets
        // another result each time.
        static thread_local uint8_t anything = 0;
        const std::size_t exact = count * sizeof(T) + kSlack;
        piece.memory.reset(new uint64_t[(exact + 7) / 8]);
        std::memset(piece.memory.get(), ++anything, (exact + 7) / 8 * 8);
        piece.size = exact;
#else
        const std::size_t bytes = (count * sizeof(T) + kSlack + 63) / 64 * 64;
        if (piece.size < bytes) {
            piece.memory.reset(new uint64_t[bytes / 8]);
            piece.size = bytes;
        }
#endif
        ++used_;
        return reinterpret_cast<T*>(piece.memory.get());
    }
    std::size_t mark() const { return used_; }
    void release(std::size_t mark) { used_ = mark; }

    // Gives back what few chunks need.
    void trim() {
        std::size_t left = std::size_t{1} << 23;  // bytes that a thread keeps
        used_ = 0;
        for (Piece& piece : pieces_) {
            if (piece.size > left) {
                piece = {nullptr, 0};
            } else {
                left -= piece.size;
            }
        }
    }

private:
    struct Piece {
        std::unique_ptr<uint64_t[]> memory;
        std::size_t size;
    };
    std::vector<Piece> pieces_;
    std::size_t used_ = 0;
};

// That of this thread, for as long as one chunk takes.
class Borrowed {
public:
    Scratch& scratch() { return own(); }
    ~Borrowed() { own().trim(); }

private:
    static Scratch& own() {
        thread_local Scratch scratch;
        return scratch;
    }
};

// What is taken while this lives is given back with it.
class Scope {
public:
    explicit Scope(Scratch& scratch) : scratch_(scratch), mark_(scratch.mark()) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { scratch_.release(mark_); }

private:
    Scratch& scratch_;
    std::size_t mark_;
};

}  // namespace hasten::sprintz
