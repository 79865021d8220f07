"""From a compressed network to a file that is as small as its footprint says, or one that a runtime loads.

`contents` says what there is to write. `packed` is the small file: its parts are `bits` (streams of codes), `coding` (one
weight), `container` (sections and index) and `loading` (into a network again). `onnx` is the one for runtimes.
"""
