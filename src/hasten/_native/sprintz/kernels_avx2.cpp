// AVX2 and BMI2.
#include "../cpu_features.hpp"

#if defined(HASTEN_X86)
#define HASTEN_SPRINTZ_AVX2
#define HASTEN_SPRINTZ_KERNELS kernels_avx2
#define HASTEN_SPRINTZ_CODES codes_avx2
#include "codes_impl.hpp"
#include "kernels_impl.hpp"
#endif
