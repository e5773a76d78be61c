// hasten._native._ext: the compiled kernels, seen from Python.
//
// House rules for every binding here: arrays come in as nanobind ndarrays (NumPy or DLPack; torch is never linked),
// every array argument is .noconvert() so that nothing is copied or cast behind the caller's back, the GIL is released
// while a kernel runs, and the caller names the instruction set (hasten._core.dispatch chooses it).
#include <nanobind/nanobind.h>

#include <cstdlib>
#include <nanobind/ndarray.h>

#include "checksum.hpp"
#include "flash/step.hpp"
#include "maddness/bind.hpp"
#include "require_isa.hpp"
#include "sprintz/bind.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

using hasten::require_isa;

uint64_t checksum(const Bytes& data, const char* isa) {
    const auto kernel = hasten::checksum.pick(require_isa(isa));
    nb::gil_scoped_release release;
    return kernel(data.data(), data.size());
}

template <typename T>
using Table = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// A thousand parameters would be six thousand DLPack arrays a step, each a microsecond or more, so this kernel takes a
// table of addresses. Who fills it in answers for them: hasten/optim/flash/native.py checks dtype, size and layout.
void flash_step(const Table<uint64_t>& tensors, const Table<double>& groups, const char* isa, std::size_t threads) {
    using hasten::flash::Columns;
    if (tensors.shape(1) != Columns::tensor_columns || groups.shape(1) != Columns::group_columns) {
        throw nb::value_error("flash_step: the tables have another number of columns than this module was built for");
    }
    if (tensors.shape(0) > 0 && groups.shape(0) == 0) throw nb::value_error("flash_step: tensors without a group");
    const auto chosen = require_isa(isa);
    nb::gil_scoped_release release;
    hasten::flash::step(tensors.data(), tensors.shape(0), groups.data(), groups.shape(0), chosen, threads);
}

nb::dict features() {
    nb::dict found;
    for (const hasten::Feature& feature : hasten::cpu_features()) found[feature.name] = feature.present;
    return found;
}

nb::tuple isas() {
    nb::list found;
    for (const char* name : hasten::kIsaNames) {
        if (hasten::isa_available(*hasten::isa_from_name(name))) found.append(name);
    }
    return nb::tuple(found);
}

}  // namespace

NB_MODULE(_ext, m) {
    m.doc() = "Compiled kernels of hasten; use them through hasten._core.dispatch and the rooms.";
    m.def("cpu_features", &features, "CPU features that the operating system supports, by name.");
    m.def("forced_isa", [] {
        const char* const forced = std::getenv("HASTEN_ISA");  // as os.environ, at a tenth of its price
        return forced ? forced : "";
    });
    m.def("isas", &isas, "Instruction sets that this machine runs, the smallest first.");
    m.def("checksum", &checksum, "data"_a.noconvert(), "isa"_a,
          "64-bit checksum of a contiguous uint8 array (formula: checksum.hpp).");
    m.def("flash_step", &flash_step, "tensors"_a.noconvert(), "groups"_a.noconvert(), "isa"_a, "threads"_a,
          "One optimizer step of many tensors, in place, from tables of addresses and settings (flash/step.hpp).");
    hasten::maddness::bind_maddness(m);
    hasten::sprintz::bind_container(m);
    hasten::sprintz::bind_record(m);
    hasten::sprintz::bind_v0(m);
}
