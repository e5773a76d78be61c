// NEON, which every AArch64 machine has.
#include "../cpu_features.hpp"

#if defined(HASTEN_ARM)
#define HASTEN_SPRINTZ_NEON
#define HASTEN_SPRINTZ_KERNELS kernels_neon
#define HASTEN_SPRINTZ_CODES codes_scalar
#include "kernels_impl.hpp"
#endif
