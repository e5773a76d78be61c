// hasten._native._ext: what matmul/maddness/kernels.py calls.
#pragma once

#include <nanobind/nanobind.h>

namespace hasten::maddness {

void bind_maddness(nanobind::module_& m);

}  // namespace hasten::maddness
