"""A machine's own rate: that of its product of two square matrices."""

import statistics

import torch

from benchmarks.timing import time_interleaved

# Rows and columns of the matrices whose product is the usual reference.
SIZE = 2048


class MatrixProduct:
    """Products of two square matrices, with as many operations as one product of `SIZE`."""

    def __init__(self, device: torch.device, dtype: torch.dtype, size: int | None = None) -> None:
        size = SIZE if size is None else size
        self.a, self.b = (torch.randn(2, size, size, device=device).to(dtype)).unbind()
        self.repeat = (SIZE // size) ** 3
        self.flops = 2 * size**3 * self.repeat

    def __call__(self) -> None:
        """Multiply."""
        for _ in range(self.repeat):
            self.a @ self.b

    @classmethod
    def best(cls, device: torch.device, dtype: torch.dtype) -> "MatrixProduct":
        """The fastest of 256, 512, 1024 and 2048: some libraries multiply small matrices at twice the rate."""
        products = {str(SIZE // part): cls(device, dtype, SIZE // part) for part in (8, 4, 2, 1)}
        seconds = time_interleaved(products, 3)
        return products[min(seconds, key=lambda size: statistics.median(seconds[size]))]
