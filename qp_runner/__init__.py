"""qp_runner: in which order, and when, should pruning and quantization enter training?"""

__version__ = "0.1.0"
