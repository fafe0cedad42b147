"""What a failed driver call raises."""


class CUDADriverError(RuntimeError):
    pass
