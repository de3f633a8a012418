"""The rules that `taxonomy.py` reads: regular expressions on lower-case names, in the order in which they are tried.

Each is written as the libraries write their names, with the library's own spelling beside the general word for it.
`(?<![a-z])word` is a word that begins there: an underscore, a colon or the digit of a mangled name may stand before it.
What may stand between two words has a bound, so that a name that repeats the first one costs no more than its length.
"""

from __future__ import annotations

from typing import Final


def _any(*patterns: str) -> str:
    return "|".join(patterns)


_ARITHMETIC: Final = (
    "add|sub|mul|div|pow|neg|exp|exp2|expm1|log|log2|log10|log1p|sqrt|rsqrt|a?cosh?|a?sinh?|a?tan|atanh|atan2|hypot|erfc?|"
    "erfinv|abs|sgn|frac|clamp|clamp_min|clamp_max|where|eq|ne|lt|le|gt|ge|equal|isclose|allclose|diff|cross|lgamma|"
    "digamma|polygamma|xlogy|logaddexp2?|copysign|heaviside|nextafter|float_power|gcd|lcm|special_\\w+|rsub|bitwise_\\w+|"
    "__\\w+__|logical_\\w+|round|floor|ceil|trunc|lerp|addcmul|addcdiv|reciprocal|square|maximum|minimum|fmax|fmin|"
    "remainder|fmod|sign|isnan|isinf|isfinite|isneginf|isposinf|isin|floor_divide|true_divide|(native_|feature_|alpha_)?"
    "dropout|bernoulli|uniform|normal|random|rand\\w*|exponential|nan_to_num|_foreach_\\w+|_fused_\\w+|"
    "_amp_foreach_\\w+|masked_fill|polar|complex|view_as_complex|threshold|logit|cdist|\\w*_loss"
)
_VIEWS: Final = (
    "empty\\w*|view\\w*|reshape|_reshape\\w*|slice|select|expand\\w*|unsqueeze|squeeze|as_strided\\w*|t|detach|alias|"
    "narrow|split\\w*|unsafe_split\\w*|tensor_split|chunk|unsafe_chunk|unbind|flatten|unflatten|resolve_\\w+|lift\\w*|"
    "result_type|promote_types|can_cast|arange|ones\\w*|full\\w*|item|_local_scalar_dense|is_nonzero|scalar_tensor|set|"
    "_unsafe_?view|unsafeview|new_\\w+|tril|triu|repeat|movedim|moveaxis|size|stride|sym_\\w+|dim|numel|unfold|"
    "broadcast_\\w+|diagonal|resize\\w*|meshgrid|linspace|eye|record_stream|pin_memory|_pin_memory|is_pinned|numpy_t|mt|"
    "swapaxes|swapdims|real|imag|conj|_conj|requires_grad|retain_grad|_version|output_nr|data|_make_dual|_assert\\w*|"
    "_has_\\w+|_nested_\\w+|_sparse_(?=\\w*$)\\w+tensor\\w*|coalesce|values|indices|crow_indices|col_indices"
)

# What says what a kernel does, wherever it stands. The first rule that matches wins: what fuses comes before what is
# fused into it (a gemm with a ReLU epilogue is a gemm; cuDNN's attention names itself after a convolution's fprop).
MARKS: Final[tuple[tuple[str, str], ...]] = (
    ("memcpy PtoP", r"^memcpy ptop|copypeertopeer|memcpy.{0,99}peer"),
    ("memcpy HtoD", r"^memcpy htod|copyhosttodevice|memcpy.{0,99}host -> device"),
    ("memcpy DtoH", r"^memcpy dtoh|copydevicetohost|memcpy.{0,99}device -> host"),
    ("memcpy DtoD", r"^memcpy dtod|copydevicetodevice|memcpy.{0,99}device -> device"),
    ("memcpy unknown", r"^memcpy\b|rocclr_copy"),
    ("memset", r"^memset\b|rocclr_fill|^fillbuffer"),
    (
        "communication",
        _any(
            r"nccl|rccl|mscclpp|mscclkernel|(?<![a-z])hccl|^hcom_|xccl|oneccl|nvshmem|rocshmem|one_?rank_?reduce",
            r"cross_device_reduce|(one|two)_?shot_?all|all_?reduce|all_?gather|reduce_?scatter|all_?(to|2)_?all|"
            r"(?<![a-z])a2a(?![a-z0-9])|moe_?a2a|quick_?reduce|multimem|lamport|send_?recv|symm_?mem|userbuffers|"
            r"(?<![a-z])(put|wait|get|set)_signal|signal_kernel|(?<![a-z])barrier(_kernel|_all)?(?![a-z])",
            r"deep_ep(?!_)|hybrid_?ep(?![a-z])|(inter|intra)_?node(?![a-z])|get_dispatch_layout|(cached_)?notify_dispatch|"
            r"(?<![a-z])ep_?(dispatch|combine)|(?<![a-z])mori(::|\d)|(?<![a-z])pplx|moe_?(dispatch|combine)|"
            r"moe_?comm(?![a-z])|(token|expert)_?(dispatch|combine)_?kernel|(?<![a-z])dcp(?![a-z])",
            r"^_?c10d\w*::|^(gloo|mpi|ucc|nccl|xla):|^record_param_comms|^torch\.distributed",
        ),
    ),
    (
        "image operations",
        r"upsample|interpolat|grid_?sampl|resize_?(image|bi|near|_?pil|_?lanczos)|nvjpeg|decode_(jpeg|png|image|webp)|"
        r"^torchvision::|^image::|(?<![a-z])nms_|roi_?(align|pool)|rasteriz",
    ),
    (
        "state space",
        _any(
            r"selective_?(scan|state)|chunk_?(scan|state|cumsum)|chunk_(local|global)_cumsum|chunk_scaled_dot|kkt_|"
            r"state_?passing|_bmm_chunk|(?<![a-z])mamba|(?<![a-z])ss[dm](?![a-z])|(?<![a-z])ssd_|causal_?conv1d|short_?conv",
            r"gated_?delta|delta_?(rule|net)|(?<![a-z])(gdn|kda|gla|gsa|hgrn|rwkv|comba|mlstm|slstm|rglru|rg_lru|hyena)\d?"
            r"(?![a-z])|(?<![a-z])b?wkv(?![a-z])|rwkv|retention|(lightning|linear)_?att(entio)?n|fused_?recurrent|"
            r"fused_chunk_|chunk_(fwd|bwd)_(kernel_)?(o|h|a|v|d[a-z]*)(_|$)|chunk_(fwd|bwd)_kernel|"
            r"recompute_w_u|prepare_wy|wy_repr|solve_tril|merge_\d+x\d+_to_\d+x\d+_inverse|token_?shift|linear_scan|"
            r"^_(fwd|bwd)_(diag|kv_(parallel|reduce)|none_diag)",
            r"(?<![a-z])(lstm|gru|rnn)(?![a-z])|lstm_?elementwise|elemwisernn|(lstm|gru)_?cell|persist_?rnn|rnn_\w{0,99}persist",
        ),
    ),
    (
        "moe routing",
        _any(
            r"(top_?k|gate)_?gating|gating_?top_?k|top_?k_?(softmax|sigmoid|softplus)|(?<!log_)softmax_?top_?k|"
            r"grouped_?top_?k|moe_?(fused_?)?(gate|topk)(?![a-z])|(deepseek_?v?\d?|noaux_?tc)_?top_?k|noaux_?tc|"
            r"(?<![a-z])_?topk_(for|back)ward|fused_topk_with_score|moe_?aux_?loss",
            r"moe_?(align|sum|permute|unpermute|sort|reduc|finali|prepare|shuffle|scatter|gather|count|index|pad|"
            r"preprocess|lora_align)|finalize_?moe|moe::\S{0,99}?(routing|finalize|permute)|(?<![a-z])moe\d*3dev\d+(routing|"
            r"finalize|permute)|routing_?(main|ind|init|post|cluster|offset|histogram|deepseek|custom|renorm|llama)|"
            r"(combined_|_)routing_(compute|memset)|(?<![a-z])routing_?kernel|bitmatrix|expt_data|finalizekernel",
            r"expand_?input_?rows|expert_?(map|count|offset|first|prefix|blockscale|ids|indices|histogram|token|start)|"
            r"(sort|count)\w{0,99}_?expert|num_tokens_per_expert|compute_?(expert|seg_indptr|src2dst|masked_m|problem_sizes|"
            r"arg_sorts|strides_?tma)|get_group_gemm_starts|(?<![a-z])ep_(scatter|gather)|(pre|post)_?reorder|deep_?ep_(permute|"
            r"run|compute|post)|(un)?permute_?(rows|tokens|with_mask)|row_id_map|sort_chunks_by|"
            r"shuffle_?(rows|mul_sum)|(?<![a-z])padded_(gather|scatter|copy)|eplb",
        ),
    ),
    (
        "copy/cast",  # what writes the cache for attention, and names it
        r"(reshape|concat)_and_cache|(store|set|append|write|update|fill|zero|save|swap|gather|quantize_and_store)_?(mla_)?"
        r"(paged_?)?kv(_?cache|_?buffer)?(?![a-z])|appendpagedkv|destindex_copy|gather_and_maybe|cp_gather|copy_blocks|"
        r"swap_blocks|kv_?cache_?(copy|write|store|transfer|scatter|update)|transfer_kernel_(impl|mla)|concat_mla|"
        r"save_partial_states",
    ),
    ("embedding/gather", r"kv_indices|token_ids_kernel|slot_mapping"),
    (
        "quantization",  # SageAttention's, whose namespace says attention; and what goes around a gemm
        r"quantint8kernel|mean_?scale_?kernel|sub_?mean_?kernel|transpose_?pad_?permute|(?<![a-z0-9_])_?quant_(per|query|key|qk)_|"
        r"quant_?pack|kdequant_mm|mm_dequant|marlin\w{0,99}repack",
    ),
    ("rope", r"rotary|(?<![a-z])m?rope(?![a-z])|applyrope|apply\w{0,99}rope|fused_?rope|rope_?(quant|kernel|embed)"),
    (
        "attention",
        _any(
            r"attention|attn|flash_?(fwd|bwd|attn|mla)|flash::|fmha|mmha|(?<![a-z])xqa|sdpa|(?<![a-z])mha_|kernel_mha|"
            r"(pre|de)code_?with_?(paged_?)?kv|with_?(paged|ragged)_?kv|merge_?states?|paged_?kv.{0,99}kernel|mla_(pre|de)|"
            r"(?<![a-z])(kn_)?mla(?![a-z])|mla_?(reduce|metadata|decode|prefill)|m[qgh]a_logits|(?<![a-z])indexer|"
            r"aiter\d*pa_(bf16|fp16|fp8)|scaled_dot_product|scheduler_metadata|(?<![a-z])nsa(?![a-z])",
            r"^_?(fwd|bwd)_(grouped_)?(kernel|preprocess)|^reduce_segments|splitkv|paged_?decode|lse_combine|output_lse|"
            r"top_?k_?per_?row|dsv\d_topk|compute_dot_do_o|do_o_dot|varlen_num_blocks|ms_?deform",
        ),
    ),
    (
        "sort/scan",  # torch.topk, which says nothing of what it is for
        r"(?<![a-z])(sb|mb)topk|gather_?topk|radixfindkth|bitonic_?sort|aten::(topk|kthvalue|argsort|msort|median)",
    ),
    (
        "sampling",
        r"argm(ax|in)|multinomial|(?<![a-z])top_?k|topktopp|top_?k_?(renorm|mask|top_?p|sampl)|top_?p_|"
        r"(?<!up)(?<!down)(?<!sub)sampl(e|ing)|min_?p_|penalt|temperature|rejection|speculative|spec_?dec|verify_?tree|build_?tree|"
        r"aten::exponential_|logits_?(processor|bias|stats)|apply_?token_?bitmask|(?<![a-z])gumbel",
    ),
    ("normalization", r"cudnn.{0,199}::bn_|batch_?norm"),
    (
        "convolution",
        r"(?<![a-z])q?conv(?!er[ts])|[a-z_]conv(\d|_|olution|olve)|asmconv|depthwise|fprop|dgrad|wgrad|winograd|"
        r"im2d?2?col|col2im|vol2col|col2vol|implicit_gemm|igemm_(fwd|bwd|wrw)|scudnn|nchw_?to_?nhwc|nhwc_?to_?nchw|"
        r"nchw2nhwc|nhwc2nchw|cask_cudnn|fft[12]d_|cudnn_(infer|train)",
    ),
    (
        "fft",
        r"(?<![a-z])(regular|vector|composite|multi|bluestein|r2c|c2r|real_complex)_?\w{0,99}fft|fft_rtc|cufft|rocfft|hipfft|"
        r"vkfft|dprealcomplex|aten::_?i?(fft|stft)|aten::(stft|istft)|(?<![a-z])i?fft(?![a-z])",
    ),
    (
        "linear algebra",
        r"cusolver|rocsolver|hipsolver|magma(?!\w{0,99}gemm)|potr[fsi]|getr[fsi]|geqrf|orgqr|ormqr|gesv|syev|heev|cholesky|"
        r"(?<![a-z])(trsm|trsv|laswp)|^aten::_?(linalg_(?!.*norm)\w+|inverse|svd|qr|det|logdet|pinverse|lu_\w+|"
        r"triangular_solve)$",
    ),
    (
        "activation",  # the fused ones, that are named after the quantization and the gemm that follow
        r"^(?!.*((?<!deep_)gemm|matmul)).*(silu|gelu|swiglu|relu)_\w{0,99}(quant|cvt_fp16)|(act|silu|gelu|situ|swiglu)_?and_?"
        r"mul",
    ),
    (
        "gemm",
        _any(
            r"(?<!fb)(?<!deep_)gemm|(?<!quant_)deep_gemm(?!::|\d)|gemv|cutensor|cublas|rocblas|hipblas|(cu|roc|hip)sparse|"
            r"cutlass_\d|cutlass\dx|nvjet|matmul|mul_mat|xmma|tensorop(?!with)|(?<![a-z])cijk_|tensile|split_?k_?reduce|"
            r"wvsplitk|llmm1|mfma|(?<![a-z])a\d+w(fp|int)?\d|fused_?(moe(?!_aux)|experts)|moe_?forward|fmoe|moe_gemm|"
            r"marlin|machete|allspark|scaled_mm",
            r"(?<![a-z0-9])(b|add|badd|add_?b)?mm(?![a-z])|(?<![a-z])(b|add|badd)mm(out|_?kernel)|dot_kernel|"
            r"reduce_1block_kernel|triton_tem\w{0,99}_(mm|bmm|addmm|baddbmm)(_|$)|grouped_mm|int\dpack_mm|spmm|sddmm|csrmm|csrmv",
            r"^aten::(?=\w*$)(_?\w*mm|bmm|baddbmm|linear|bilinear|dot|vdot|mv|addmv|einsum|outer|ger|inner|tensordot|matmul|"
            r"addbmm|chain_matmul|_grouped_mm|linear_backward|_trilinear|cosine_similarity)\w*$|"
            r"^[a-z_]\w*::(?=\w*$)\w*linear(?!_?att)\w*$",
        ),
    ),
    ("softmax", r"softmax|logsumexp|cross_?entropy|nll_loss|ctc_loss"),
    ("reduction", r"vector_norm|norm(one|two|zero|nan)?ops|aten::norm$|(?<![a-z])lpnorm|norm_?functor"),
    (
        "normalization",
        r"norm(?!al)|welford|var_mean|moments|gammabeta|gamma_beta|fused_\w{0,99}rsqrt|(?<![a-z])ln_(fwd|bwd|parallel)|"
        r"__myl_\w{0,99}(mea\w{0,99}sqr|sqr\w{0,99}mea)",
    ),
    (
        "elementwise",  # optimizers, some of which keep a quantized state
        r"optimizer",
    ),
    (
        "activation",
        r"gelu|silu|relu|sigmoid|hard_?tanh|tanh|swish|swiglu|geglu|(?<![a-z])[cs]?elu|act_and_mul|mish|softplus|"
        r"soft_?shrink|hard_?shrink|(?<![a-z])glu|do_?(gated_?)?activation|activation_?(kernel|deepseek)|"
        r"^_(fg|dwf_dw_dfg|(exact|approx)_(for|back)ward)_kernel",
    ),
    (
        "quantization",
        _any(
            r"(?<!un)quant(?!ile|um)|qparam|fp8_?rowwise|float_to_\w{0,99}(fp8|fp4|8bit|4bit|nbit|int8)|(fp8|fp4|bitrowwise|"
            r"nbit)_?\w{0,99}_?to_float|fusednbit|fused8bit|(per_)?(token|channel|block|group)_?(group_?)?cast|cast_(to_)?(fp8|fp4|"
            r"int8|e4m3|mx)|(fp8|fp4|mx)_?cast|cast_transpose|cvt_\w{0,99}(fp4|fp8|e4m3|int8|int4)|to_(fp8|fp4|mxfp\d|nvfp4|e4m3|"
            r"e2m1|ue8m0)|hadamard|had_transform|block_scale_?(interleave|swizzle)|swizzle_?(block|scale|sf)|convert_?sf|"
            r"segmented_max_reduction|amax_(history|and_scale)|delayed_scaling|repack|reconstruct_\w{0,99}(exllama|gptq)|"
            r"make_sequential|reorder_(and_upcast|batched_ad)_weight|int4pack|qserve",
        ),
    ),
    (
        "sort/scan",
        r"radix_?sort|merge_?sort|(?<![a-z])sort|sort(kernel|pairs|bykey)?(?![a-z])|device_?scan|devicescan|cumsum|"
        r"cumprod|cummax|cummin|logcumsumexp|tensor_kernel_scan|scan_(inner|outer|config)|associative_scan|"
        r"wrapped_(scan|partition|sort)|bincount|histogram|histc|unique|nonzero|searchsorted|bucketize|select_?if|"
        r"reduce_?by_?key|deviceselect|devicepartition|devicecompact|runlength|write_indices|triton_(split_scan|spl)_",
    ),
    (
        "embedding/gather",
        r"embedding|gather|scatter|index_?(select|put|add|fill|copy|func|elementwise)|(?<![a-z])indexfunc|indexing|"
        r"(?<![a-z])index_|modindex|aten::(_unsafe_|_)?(masked_)?index|take_along|aten::take|aten::one_hot|lookup|linearize|"
        r"bounds_check_indices|permute_indices|repeat_interleave|compute_(position|slot)|req_to_token|partial_segments?|"
        r"num_of_segments|compute_grad_weight|segment_(csr|coo)|compute_cuda_kernel|masked_select|krn_partials",
    ),
    (
        "copy/cast",
        r"direct_copy|copy_?kernel|catarray|(?<![a-z])cat_|concat|contiguous|fillfunctor|(?<!masked_)fill_kernel|to_dense|"
        r"transpose|permute|kv_?cache|cast_kernel|recat_copy|copydevice|batched_memcpy|memcpy|memset|"
        r"triton_poi_fused_(_*(to_copy|copy|clone|cat|transpose|permute|view|t|stack|"
        r"expand|slice|select|unsqueeze|full|zeros|fill|constant_pad_nd)_+)+\d*$|^aten::(_?to|_to_copy|_?tocopy|copy|"
        r"contiguous|clone|cat|_cat|concat|stack|hstack|vstack|fill|zero|zeros|zeros_like|roll|flip|fliplr|flipud|rot90|pad|"
        r"constant_pad_nd|reflection_pad\w*|replication_pad\w*|permute|transpose|bfloat16|float|half|double|int|long|"
        r"bool|type_as|to_dense\w*|_to_dense|_to_cpu|cpu|cuda|copy_slices|tile)_?$|flip|roll_cuda|pad_kernel|_pad\dd|"
        r"reflection_pad|split_with_sizes_copy|chunk_cat|copy_?(slices|backwards)|aten::copy|pixel_?(un)?shuffle",
    ),
    ("pooling", r"(max|average|avg|adaptive|lp)_?pool|pooling|pool(2d|3d|_fw|_bw|_for|_back)|mpool"),
)

# What says only how a kernel works. It decides when nothing above does, in the name or in the template arguments.
FORMS: Final[tuple[tuple[str, str], ...]] = (
    ("gemm", r"cutlass|(?<![a-z])ck(_tile)?::|_zn(k?7ck_tile|2ck)|triton_tem_|flydsl"),
    (
        "reduction",
        r"reduc(e|tion)|triton_(red|per)_|amax|amin|devicereduce|(?<![a-z])(sum|mean|max|min)_?kernel|input_\w{0,99}fusion|"
        r"^aten::(sum|mean|max|min|amax|amin|aminmax|any|all|prod|std|var|std_mean|count_nonzero|nansum|nanmean|trace|"
        r"_is_all_true|_is_any_true|sum_to_size|dist)$",
    ),
    (
        "elementwise",
        rf"elementwise|elemwise|vectorized|pointwise|triton_(poi|for|unk)_|(triton|cpp)_fused|multi_tensor_?apply|dropout|"
        rf"(op|add|scale)_?\w{{0,99}}tensor|op\dd_?tensor|opwithscalar|op\dd_|functor|adam|sgd|adagrad|"
        rf"(?<![a-z])lamb(?![a-z])|foreach|"
        rf"for_each|parallel_?for|arange|offsets_range|clamp|^aten::({_ARITHMETIC})_?$|_tri[lu]_|tri[lu]_|lerp|distribution|"
        rf"threshold|where_kernel|(mul|add|sub|div|bias|scale|residual|mask|gate|exp|sign)_?kernel|eye_|transform_config|"
        rf"accumulategrad|(?<![a-z])(axpy|scal|axpby)(?![a-z])|hyper_?connection|(?<![a-z])mhc|__myl|"
        rf"loop_\w{{0,99}}fusion|"
        rf"(?<![a-z])fusion(?![a-z])|(?<![a-z])(unary|binary)_?op|jagged|masked_fill|modulat|scale_shift|_mul_add_|(?<![a-z])amp_|nvfuser|cudacodegen|^_?fused_",
    ),
    (
        "embedding/gather",  # what a server keeps of its requests
        r"indices|idx_mapping|block_?tables?|page_?tables?|seq_?lens|positions|prepare_\w{0,99}inputs|inputs_padded|hash_ids",
    ),
    ("allocation and views", rf"^aten::({_VIEWS})_?$|^detach_?$"),
)

EXTERNAL: Final = (
    r"(?<=_)(convolution(_backward|_overrideable)?|_?(scaled_|grouped_|int_)?(add|b|badd)?(mm|bmm)|linear|"
    r"_?scaled_dot_product\w{0,99}?attention(_for_cpu)?(_backward)?|_?flash_attention_(for|back)ward|"
    r"_?efficient_attention_(for|back)ward|(unified_)?attention_with_output|flex_attention(_backward)?|"
    r"(inplace_)?fused_(moe|experts)|moe_forward(_shared)?|(all_(reduce|gather_into_tensor|to_all_single)|"
    r"reduce_scatter_tensor|wait_tensor)(_coalesced)?)(?=_)"
)
"""Ops that `torch.compile` names a fused kernel after though libraries run them: the kernel is a bias or a change of
shape before or after them."""
