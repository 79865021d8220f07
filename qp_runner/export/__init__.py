"""From a compressed network to a file that is as small as its footprint says, or one that a runtime loads.

`contents` says what there is to write. `packed` writes the small file, made of `bits` (streams), `coding` (one weight)
and `container` (data and index); `unpacked` reads it, `loading` puts it into a network.

`onnx_file` writes the other one: `marking` makes a graph with marks where sites are, and `exact` or `integer` (with
`integer_layers`, `folding`, `patterns` and `branches`) puts arithmetic in their place. `exporting` writes files and has
them verified on the test set: `comparison` runs a task with other computations in the place of its networks,
`verification` says what must hold.

`unpacked` needs NumPy and safetensors alone; what has to do with ONNX needs the extra `export`.
"""
