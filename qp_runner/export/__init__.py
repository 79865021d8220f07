"""From a compressed network to a file that is as small as its footprint says, or one that a runtime loads.

`contents` says what there is to write. `packed` writes the small file, made of `bits` (streams), `coding` (one weight)
and `container` (sections and index); `unpacked` reads it, `loading` puts it into a network.
"""
