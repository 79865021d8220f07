"""What is known of primitive operations by their names: which compute, and which hand on what they read."""

COMPUTING = tuple(
    "convolution conv_ linear addmm mm bmm baddbmm addbmm mv addmv dot _scaled_dot_product _flash_attention "  # noqa: SIM905
    "_efficient_attention _native_multi_head_attention embedding lstm gru rnn _thnn_fused mkldnn_rnn _cudnn_rnn "
    "grid_sampler roi_align roi_pool deform_conv2d _cdist cdist _trilinear".split()
)
"""How the names of operations begin that read each value many times, so that it has to lie in memory."""

SAME_CODES = frozenset(
    "clone _to_copy contiguous _reshape_copy pixel_shuffle pixel_unshuffle channel_shuffle roll flip "  # noqa: SIM905
    "detach alias lift_fresh constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d relu relu_ clamp clamp_ clamp_min clamp_min_ hardtanh hardtanh_ "
    "max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "adaptive_max_pool2d adaptive_max_pool3d mean amax cat stack".split()
)
"""Operations that move, select, clip or pool values: their result is one tensor with what they read."""

CLIPPING = {"relu", "relu_", "clamp", "clamp_", "clamp_min", "clamp_min_", "hardtanh", "hardtanh_"}
JOINING = {"cat", "stack"}
SIZE_DEPENDS_ON_VALUES = {"nonzero", "masked_select", "nms", "_unique2", "unique_dim", "unique_consecutive"}
