"""How far work is from what its device can do: FLOPs and bytes from recorded shapes, peak rates, floors.

`tensors` reads what an op recorded of its inputs, `matrix_ops` and `vector_ops` have a formula an op (`costs`),
`opcosts` says which work is whose, `rows` what rows of work achieve, `floors` and `gemma3_floor` the least time of a
stage, `devices` and `peaks_file` what to hold it against.
"""
