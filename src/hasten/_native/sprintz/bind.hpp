// What the time-series codec adds to the module.
#pragma once

#include <nanobind/nanobind.h>

namespace hasten::sprintz {

void bind_container(nanobind::module_& m);  // checksum and statistics of tsz files
void bind_record(nanobind::module_& m);     // their columns
void bind_v0(nanobind::module_& m);         // published Sprintz streams

}  // namespace hasten::sprintz
