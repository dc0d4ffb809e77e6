"""The names of PyTorch that docs/pytorch.md is about, by subject, and what it says of them that no program can find.

Names joined by "/" are one function in PyTorch. A name of FUNCTIONS stands for torch.name, torch.nn.functional.name and
torch.Tensor.name, whichever PyTorch has.
"""

from __future__ import annotations

# Settings of the eager machine: a graph has no use for them, and what only these set apart is the same.
MACHINERY = {
    "out", "inplace", "layout", "device", "pin_memory", "requires_grad", "generator", "memory_format", "non_blocking",
    "copy", "foreach", "capturable", "differentiable", "fused", "implicit", "_stacklevel", "_weight", "_freeze",
    "out_dtype", "names", "sparse_grad", "force",
    "pickle_module", "pickle_protocol", "_use_new_zipfile_serialization", "_disable_byteorder_record",
}  # fmt: skip
# Settings that PyTorch calls deprecated, and calls in an order it no longer documents. What stands behind such settings
# is given by keyword.
OLD = {"size_average", "reduce", "verbose", "min_value", "max_value"}
OLD_CALLS = {"alpha, other", "/, alpha=1", "value, tensor1", "beta, self", "padding='valid'"}

FUNCTIONS = ("torch", "torch.nn.functional", "torch.Tensor")
METHODS, LAYERS, OPTIMIZERS = ("torch.Tensor",), ("torch.nn",), ("torch.optim",)

# subject -> (where its names are, the tests of them, the names)
SUBJECTS = {
    "Arithmetic": (
        FUNCTIONS,
        "test_elementwise test_maths",
        """add sub/subtract mul/multiply div/divide/true_divide floor_divide remainder fmod neg/negative positive
        abs/absolute sign pow float_power square sqrt rsqrt reciprocal maximum minimum fmax fmin clamp/clip floor ceil
        round trunc/fix frac lerp hypot heaviside addcmul addcdiv copysign nan_to_num""",
    ),
    "Operators": (
        METHODS,
        "test_elementwise",
        """__add__ __sub__ __mul__ __truediv__ __floordiv__ __mod__ __pow__ __matmul__ __neg__ __pos__ __abs__ __lt__
        __le__ __gt__ __ge__ __eq__ __ne__ __and__ __or__ __xor__ __invert__ __lshift__ __rshift__ __getitem__
        __setitem__""",
    ),
    "Comparison and logic": (
        FUNCTIONS,
        "test_elementwise test_views",
        """eq ne/not_equal lt/less le/less_equal gt/greater ge/greater_equal isclose allclose equal isnan isinf isfinite
        logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not
        bitwise_left_shift bitwise_right_shift where masked_fill""",
    ),
    "Mathematics": (
        FUNCTIONS,
        "test_elementwise test_maths",
        """exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2 xlogy logit sigmoid tanh sin cos tan asin/arcsin
        acos/arccos atan/arctan atan2/arctan2 sinh cosh asinh/arcsinh acosh/arccosh atanh/arctanh deg2rad rad2deg erf
        erfc erfinv lgamma digamma sinc""",
    ),
    "Activations": (
        FUNCTIONS,
        "test_elementwise test_activation",
        """relu relu6 leaky_relu rrelu prelu elu selu celu gelu silu mish softplus softsign hardtanh hardsigmoid
        hardswish hardshrink softshrink tanhshrink logsigmoid threshold glu softmax softmin log_softmax
        gumbel_softmax""",
    ),
    "Reductions": (
        FUNCTIONS,
        "test_reduction test_indexing",
        """sum mean prod max min amax amin aminmax argmax argmin var std var_mean std_mean norm logsumexp cumsum cumprod
        cummax cummin logcumsumexp any all count_nonzero median quantile nanmean nansum mode bincount histc unique""",
    ),
    "Products": (
        FUNCTIONS,
        "test_products test_views",
        """matmul mm bmm mv dot inner outer kron tensordot einsum linear bilinear addmm baddbmm cross tril triu diag
        diagonal diag_embed trace cdist matrix_power det inverse""",
    ),
    "Shapes": (
        FUNCTIONS,
        "test_views test_types test_step",
        """reshape view view_as reshape_as flatten unflatten ravel transpose/swapaxes/swapdims permute
        movedim/moveaxis t T mT expand expand_as broadcast_to broadcast_tensors squeeze unsqueeze atleast_1d atleast_2d
        atleast_3d contiguous clone size shape ndim dim numel""",
    ),
    "Indexing": (
        FUNCTIONS,
        "test_indexing test_placing test_embedding",
        """gather scatter scatter_add scatter_reduce index_select index_add index_copy index_fill index_put take
        take_along_dim select narrow masked_select nonzero argwhere one_hot embedding embedding_bag""",
    ),
    "Joining, splitting, repeating": (
        FUNCTIONS,
        "test_joining test_indexing",
        """cat/concat/concatenate stack hstack vstack/row_stack dstack column_stack split chunk tensor_split unbind pad
        flip fliplr flipud roll rot90 repeat tile repeat_interleave""",
    ),
    "Orders": (FUNCTIONS, "test_sorting", "topk sort argsort msort kthvalue searchsorted bucketize diff"),
    "Creation": (
        FUNCTIONS,
        "test_creation test_functional",
        """arange linspace logspace eye zeros ones full empty zeros_like ones_like full_like empty_like meshgrid tensor
        as_tensor from_numpy tril_indices""",
    ),
    "Element types": (
        ("torch",),
        "test_types test_elementwise",
        "float32 float64 int32 int64 uint8 bool float16 bfloat16 int8 int16 complex64",
    ),
    "Casts and numbers": (
        METHODS,
        "test_types test_elementwise test_interop test_remaining",
        "to type type_as float double int long bool byte half bfloat16 dtype item tolist numpy",
    ),
    "Random numbers": (
        FUNCTIONS,
        "test_random test_randomness",
        """rand randn randint randperm rand_like randn_like randint_like normal bernoulli multinomial poisson
        manual_seed get_rng_state set_rng_state""",
    ),
    "Layers": (
        LAYERS,
        "test_layers test_embedding test_randomness test_windows test_normalization",
        """Linear Bilinear Identity Flatten Unflatten Embedding EmbeddingBag Conv1d Conv2d Conv3d ConvTranspose1d
        ConvTranspose2d ConvTranspose3d Unfold Fold MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d
        AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
        MaxUnpool2d LPPool2d FractionalMaxPool2d BatchNorm1d BatchNorm2d BatchNorm3d LayerNorm GroupNorm RMSNorm
        InstanceNorm1d InstanceNorm2d InstanceNorm3d LocalResponseNorm SyncBatchNorm Dropout Dropout1d Dropout2d
        Dropout3d AlphaDropout FeatureAlphaDropout RNN LSTM GRU RNNCell LSTMCell GRUCell MultiheadAttention
        TransformerEncoderLayer TransformerEncoder TransformerDecoderLayer TransformerDecoder Transformer Upsample
        UpsamplingNearest2d UpsamplingBilinear2d PixelShuffle PixelUnshuffle ChannelShuffle ZeroPad2d ConstantPad2d
        ReflectionPad2d ReplicationPad2d CircularPad2d""",
    ),
    "Layers of activations": (
        LAYERS,
        "test_layers test_activation",
        """ReLU ReLU6 LeakyReLU RReLU PReLU ELU SELU CELU GELU SiLU Mish Sigmoid Tanh Softplus Softsign Hardtanh
        Hardsigmoid Hardswish Hardshrink Softshrink Tanhshrink LogSigmoid Threshold GLU Softmax Softmax2d Softmin
        LogSoftmax""",
    ),
    "Functions of layers": (
        FUNCTIONS,
        "test_layers test_normalization test_randomness test_windows test_recurrent",
        """conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d unfold fold max_pool1d max_pool2d
        max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
        adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d lp_pool2d batch_norm layer_norm group_norm rms_norm
        instance_norm local_response_norm normalize dropout dropout1d dropout2d dropout3d alpha_dropout
        feature_alpha_dropout lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell scaled_dot_product_attention interpolate
        pixel_shuffle pixel_unshuffle channel_shuffle grid_sample affine_grid""",
    ),
    "Modules": (
        LAYERS,
        "test_module test_containers",
        "Module Sequential ModuleList ModuleDict ParameterList ParameterDict Parameter Buffer",
    ),
    "Methods of modules": (
        ("torch.nn.Module",),
        "test_module test_containers test_torch_state test_remaining",
        """parameters named_parameters buffers named_buffers modules named_modules children named_children
        register_parameter register_buffer add_module/register_module get_parameter get_submodule state_dict
        load_state_dict train eval apply to zero_grad requires_grad_ register_forward_hook extra_repr""",
    ),
    "Initialisation": (
        ("torch.nn.init",),
        "test_init",
        """calculate_gain uniform_ normal_ constant_ ones_ zeros_ eye_ dirac_ xavier_uniform_ xavier_normal_
        kaiming_uniform_ kaiming_normal_ trunc_normal_ orthogonal_ sparse_""",
    ),
    "Losses": (
        LAYERS,
        "test_losses",
        """MSELoss L1Loss SmoothL1Loss HuberLoss CrossEntropyLoss NLLLoss BCELoss BCEWithLogitsLoss KLDivLoss
        MultiMarginLoss HingeEmbeddingLoss CosineEmbeddingLoss MarginRankingLoss TripletMarginLoss SoftMarginLoss
        PoissonNLLLoss GaussianNLLLoss CosineSimilarity PairwiseDistance MultiLabelMarginLoss
        MultiLabelSoftMarginLoss TripletMarginWithDistanceLoss CTCLoss""",
    ),
    "Functions of losses": (
        FUNCTIONS,
        "test_losses",
        """mse_loss l1_loss smooth_l1_loss huber_loss cross_entropy nll_loss binary_cross_entropy
        binary_cross_entropy_with_logits kl_div multi_margin_loss hinge_embedding_loss cosine_embedding_loss
        margin_ranking_loss triplet_margin_loss soft_margin_loss poisson_nll_loss gaussian_nll_loss cosine_similarity
        pairwise_distance ctc_loss""",
    ),
    "Optimizers": (
        OPTIMIZERS,
        "test_optim",
        """SGD Adam AdamW RMSprop Adagrad Adadelta NAdam RAdam Adamax ASGD Rprop LBFGS Adafactor SparseAdam
        Muon""",
    ),
    "Methods of optimizers": (
        ("torch.optim.Optimizer",),
        "test_optim test_torch_state",
        "step zero_grad add_param_group state_dict load_state_dict",
    ),
    "Gradients of parameters": (
        ("torch.nn.utils",),
        "test_clipping test_remaining",
        """clip_grad_norm_ clip_grad_value_ clip_grads_with_norm_ get_total_norm parameters_to_vector
        vector_to_parameters""",
    ),
    "Schedules": (
        ("torch.optim.lr_scheduler",),
        "test_schedules",
        """LambdaLR MultiplicativeLR StepLR MultiStepLR ConstantLR LinearLR ExponentialLR PolynomialLR CosineAnnealingLR
        CosineAnnealingWarmRestarts CyclicLR OneCycleLR SequentialLR ChainedScheduler ReduceLROnPlateau""",
    ),
    "Differentiation": (
        ("torch",),
        "test_derivatives test_gradients test_control test_step",
        """Tensor.backward Tensor.detach no_grad enable_grad autograd.grad func.grad func.vjp func.jvp autograd.Function
        autograd.functional.hvp func.grad_and_value func.jacrev func.jacfwd func.hessian vmap/func.vmap""",
    ),
    "Files and data": (
        ("torch",),
        "test_checkpoint test_data",
        """save load utils.data.Dataset utils.data.TensorDataset utils.data.DataLoader utils.data.Subset
        utils.data.random_split utils.data.ConcatDataset""",
    ),
}

# PyTorch's address -> graphc's, where it is not found by putting `gx` for `torch`
ADDRESSES = {
    "torch.Tensor.__setitem__": "gx.index_put",
    "torch.float32": "gx.f32",
    "torch.float64": "gx.f64",
    "torch.int32": "gx.i32",
    "torch.int64": "gx.i64",
    "torch.uint8": "gx.u8",
    "torch.bool": "gx.bool_",
    "torch.autograd.Function": "gx.custom_vjp",
    "torch.autograd.functional.hvp": "gx.hvp",
    "torch.autograd.grad": "gx.grad",
    "torch.func.grad": "gx.grad",
    "torch.func.vjp": "gx.vjp",
    "torch.func.jvp": "gx.jvp",
    "torch.utils.data.Dataset": "gx.data.Dataset",
    "torch.utils.data.TensorDataset": "gx.data.TensorDataset",
    "torch.utils.data.DataLoader": "gx.data.DataLoader",
    "torch.utils.data.Subset": "gx.data.Subset",
    "torch.utils.data.random_split": "gx.data.random_split",
}

OWN_TESTS = "test_api test_losses test_optim test_accumulate test_metrics test_derivatives test_control test_randomness"
# graphc's own name -> what it is
OWN = {
    "gx.hinge_loss": "mean of max(0, margin - target * input) for targets of 1 and -1",
    "gx.nn.HingeLoss": "its layer",
    "gx.optim.Lion": "Chen et al. 2023, algorithm 2",
    "gx.optim.Accumulate": "gradients of several batches added up before an optimizer's step",
    "gx.accuracy": "share of samples whose largest output is that of their label",
    "gx.top_k_accuracy": "share of samples whose label is among the k largest outputs",
    "gx.confusion_matrix": "how many samples of each label were taken for each class",
    "gx.precision_score": "as in scikit-learn",
    "gx.recall_score": "as in scikit-learn",
    "gx.f1_score": "as in scikit-learn",
    "gx.r2_score": "as in scikit-learn",
    "gx.mean_absolute_error": "as in scikit-learn",
    "gx.stop_gradient": "as in JAX; also `detach`",
    "gx.custom_vjp": "a function with a derivative of one's own",
    "gx.hvp": "Hessian of a function times a vector",
    "gx.per_sample_gradient_norms": "norm of each sample's gradient",
    "gx.scan": "a loop whose length is known when it runs, as in JAX",
    "gx.cond": "one of two branches, as in JAX",
    "gx.permutation": "0 to n - 1, or the rows of an array, in random order",
    "gx.uniform": "between two bounds",
}

# what is said of a name beside what its signature shows
DIFFERENT = {
    "max": "values alone, over any axes; `argmax` gives places, `maximum` compares two tensors",
    "min": "values alone, over any axes; `argmin` gives places, `minimum` compares two tensors",
    "equal": "NumPy's: element by element, as `eq`",
    "where": "not with a condition alone",
    "__getitem__": "NumPy's order of axes where a number, a slice and an index array stand side by side; no computed "
    "bool masks",
    "__setitem__": "of parameters; other tensors do not change",
    "masked_select": "its size would depend on numbers; `where`, `masked_fill`",
    "nonzero": "its size would depend on numbers; `where`, `argsort`",
    "argwhere": "its size would depend on numbers; `where`, `argsort`",
    "unique": "its size would depend on numbers",
    "diagonal": "of the last two axes",
    "view": "as `reshape`; no `dtype`",
    "bincount": "`minlength` must be one more than the largest number",
    "repeat_interleave": "`repeats` is one number",
    "Tensor.type": "the dtype and shape; `to` casts",
    "Tensor.to": "a dtype, of graphc or NumPy, or a tensor; no device",
    "item": "only where numbers are known; a step returns NumPy's",
    "tolist": "only where numbers are known; a step returns NumPy's",
    "numpy": "only where numbers are known; a step returns NumPy's",
    "tensor": "any array or number is taken where a tensor is; `Parameter` holds numbers",
    "as_tensor": "any array or number is taken where a tensor is",
    "from_numpy": "any array or number is taken where a tensor is",
    "empty": "zeros",
    "empty_like": "zeros",
    "hardsigmoid": "its slope is 1/6; PyTorch's is that rounded to f32, for f64 too",
    "Hardsigmoid": "its slope is 1/6; PyTorch's is that rounded to f32, for f64 too",
    "interpolate": '"nearest" and "nearest-exact", by whole multiples',
    "Upsample": '"nearest" and "nearest-exact", by whole multiples',
    "UpsamplingNearest2d": "by whole multiples",
    "MultiheadAttention": "a query that sees no key gets 0 where PyTorch gives NaN",
    "Function": "a function and its derivative, not a class: `custom_vjp`",
    "backward": "of a scalar in a traced step, for all parameters; others by `gx.grad`",
    "grad": "gives expressions, which have gradients themselves",
    "DataLoader": "gathers arrays, without workers",
    "save": "`state_dict`s as safetensors or npz, no pickle",
    "load": "`state_dict`s as safetensors or npz, no pickle",
    "random_split": "`seed` in place of a generator",
}
DRAWING = """
    rand randn randint randperm rand_like randn_like randint_like normal bernoulli manual_seed get_rng_state
    set_rng_state dropout dropout1d dropout2d dropout3d alpha_dropout Dropout Dropout1d Dropout2d Dropout3d AlphaDropout
    uniform_ normal_ xavier_uniform_ xavier_normal_ kaiming_uniform_ kaiming_normal_ trunc_normal_ orthogonal_
    sparse_
"""
DIFFERENT |= dict.fromkeys(DRAWING.split(), "numbers of graphc's own generator")
DIFFERENT |= {name: "its name" for name in ADDRESSES if name.rpartition(".")[2] in SUBJECTS["Element types"][2].split()}
