// Eight lanes of U: a vector where the compiler has such types, else an array. Part of kernels_impl.hpp.

#if defined(__GNUC__)
template <typename U> struct VectorOf;
#define HASTEN_VECTOR(U) \
    template <> struct VectorOf<U> { typedef U type __attribute__((vector_size(8 * sizeof(U)))); };
HASTEN_VECTOR(uint16_t)
HASTEN_VECTOR(uint32_t)
HASTEN_VECTOR(uint64_t)
HASTEN_VECTOR(int16_t)
HASTEN_VECTOR(int32_t)
HASTEN_VECTOR(int64_t)
#undef HASTEN_VECTOR

struct Four {
    typedef double Vector __attribute__((vector_size(32)));
    Vector x;

    INLINE static Four load(const double* from) {
        Four four;
        std::memcpy(&four.x, from, sizeof four.x);
        return four;
    }
    INLINE void store(double* to) const { std::memcpy(to, &x, sizeof x); }
    INLINE void add(Four a, Four b) { x += a.x * b.x; }
};

template <typename U>
struct Lanes {
    using Vector = typename VectorOf<U>::type;
    Vector x;

    INLINE static Lanes all(U value) { return {Vector{} + value}; }
    template <typename T>
    INLINE static Lanes load(const T* from) {
        typename VectorOf<T>::type y;
        std::memcpy(&y, from, sizeof y);
        return {__builtin_convertvector(y, Vector)};
    }
    INLINE void store(U* to) const { std::memcpy(to, &x, sizeof x); }
    template <typename T>
    INLINE Lanes<T> as() const {
        return {__builtin_convertvector(x, typename VectorOf<T>::type)};
    }
    INLINE Lanes operator+(Lanes y) const { return {x + y.x}; }
    INLINE Lanes operator-(Lanes y) const { return {x - y.x}; }
    INLINE Lanes operator*(Lanes y) const { return {x * y.x}; }
    INLINE Lanes operator&(Lanes y) const { return {x & y.x}; }
    template <int count>
    INLINE Lanes shifted() const {  // to the right, with the sign
        return {(Vector)((typename VectorOf<Signed<U>>::type)x >> count)};
    }
    INLINE Lanes zigzag() const { return {x << 1 ^ shifted<8 * sizeof(U) - 1>().x}; }
    INLINE Lanes unzigzag() const { return {x >> 1 ^ (Vector{} - (x & 1))}; }
};
#else
struct Four {
    double x[4];

    INLINE static Four load(const double* from) { return {{from[0], from[1], from[2], from[3]}}; }
    INLINE void store(double* to) const { std::memcpy(to, x, sizeof x); }
    INLINE void add(Four a, Four b) {
        for (std::size_t k = 0; k < 4; ++k) x[k] += a.x[k] * b.x[k];
    }
};

template <typename U>
struct Lanes {
    U x[kLanes];

    template <typename F>
    INLINE static Lanes each(F f) {
        Lanes result;
        for (std::size_t l = 0; l < kLanes; ++l) result.x[l] = f(l);
        return result;
    }
    INLINE static Lanes all(U value) {
        return each([&](std::size_t) { return value; });
    }
    template <typename T>
    INLINE static Lanes load(const T* from) {
        return each([&](std::size_t l) { return static_cast<U>(from[l]); });
    }
    INLINE void store(U* to) const { std::memcpy(to, x, sizeof x); }
    template <typename T>
    INLINE Lanes<T> as() const {
        return Lanes<T>::each([&](std::size_t l) { return static_cast<T>(x[l]); });
    }
    INLINE Lanes operator+(Lanes y) const {
        return each([&](std::size_t l) { return static_cast<U>(x[l] + y.x[l]); });
    }
    INLINE Lanes operator-(Lanes y) const {
        return each([&](std::size_t l) { return static_cast<U>(x[l] - y.x[l]); });
    }
    INLINE Lanes operator*(Lanes y) const {
        return each([&](std::size_t l) { return static_cast<U>(x[l] * y.x[l]); });
    }
    INLINE Lanes operator&(Lanes y) const {
        return each([&](std::size_t l) { return static_cast<U>(x[l] & y.x[l]); });
    }
    template <int count>
    INLINE Lanes shifted() const {
        return each([&](std::size_t l) { return static_cast<U>(static_cast<Signed<U>>(x[l]) >> count); });
    }
    INLINE Lanes zigzag() const {
        return each([&](std::size_t l) { return hasten::sprintz::zigzag(x[l]); });
    }
    INLINE Lanes unzigzag() const {
        return each([&](std::size_t l) { return hasten::sprintz::unzigzag(x[l]); });
    }
};
#endif
