// AVX2 and BMI2.
#include "../cpu_features.hpp"

#if defined(HASTEN_X86)
#include <immintrin.h>

#define HASTEN_SPRINTZ_AVX2
#define HASTEN_SPRINTZ_KERNELS kernels_avx2
#include "kernels_impl.hpp"
#endif
