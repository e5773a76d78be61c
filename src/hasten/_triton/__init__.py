"""GPU kernels in Triton. Nothing here needs triton to be imported: `load()` of a file of kernels imports it."""
