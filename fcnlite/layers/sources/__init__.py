"""Layers that fetch data: from arrays, HDF5 files and databases (one module each)."""
