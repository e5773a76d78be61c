// Any machine.
#define HASTEN_SPRINTZ_KERNELS kernels_scalar
#define HASTEN_SPRINTZ_CODES codes_scalar
#include "codes_impl.hpp"
#include "kernels_impl.hpp"
