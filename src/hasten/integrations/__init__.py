"""Pieces of hasten for other libraries, one module each; importing one needs the library that it is for.

- `hasten.integrations.numcodecs`: the codec `tsz` for numcodecs, and so for Zarr arrays of format 2.
- `hasten.integrations.zarr`: the codec `tsz` for Zarr arrays of format 3.
"""
