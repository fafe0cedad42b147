"""The two machines a net can run on: `host` (NumPy, host C++ compiler) and `cuda` (CuPy, NVRTC)."""
