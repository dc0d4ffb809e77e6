"""Modules, layers and losses with PyTorch's names, defaults, initialisation and state_dict keys."""

from typing import TYPE_CHECKING

from graphc.later import imports_above

if TYPE_CHECKING:
    from graphc.nn import clipping as utils
    from graphc.nn import functional, init
    from graphc.nn.activation import (
        CELU,
        ELU,
        GELU,
        SELU,
        Hardshrink,
        Hardsigmoid,
        Hardswish,
        Hardtanh,
        LeakyReLU,
        LogSigmoid,
        LogSoftmax,
        Mish,
        PReLU,
        ReLU,
        ReLU6,
        Sigmoid,
        SiLU,
        Softmax,
        Softmax2d,
        Softmin,
        Softplus,
        Softshrink,
        Softsign,
        Tanh,
        Tanhshrink,
        Threshold,
    )
    from graphc.nn.attention import MultiheadAttention
    from graphc.nn.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
    from graphc.nn.convolution import (
        Conv1d,
        Conv2d,
        Conv3d,
        ConvTranspose1d,
        ConvTranspose2d,
        ConvTranspose3d,
        Fold,
        Unfold,
    )
    from graphc.nn.dropout import AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d
    from graphc.nn.embedding import Embedding
    from graphc.nn.linear import Bilinear, Flatten, Identity, Linear, Unflatten
    from graphc.nn.losses import (
        BCELoss,
        BCEWithLogitsLoss,
        CosineEmbeddingLoss,
        CosineSimilarity,
        CrossEntropyLoss,
        GaussianNLLLoss,
        HingeEmbeddingLoss,
        HingeLoss,
        HuberLoss,
        KLDivLoss,
        L1Loss,
        MarginRankingLoss,
        MSELoss,
        MultiMarginLoss,
        NLLLoss,
        PairwiseDistance,
        PoissonNLLLoss,
        SmoothL1Loss,
        SoftMarginLoss,
        TripletMarginLoss,
    )
    from graphc.nn.module import Module, forget_gradient, name_parameters
    from graphc.nn.normalization import (
        BatchNorm1d,
        BatchNorm2d,
        BatchNorm3d,
        GroupNorm,
        InstanceNorm1d,
        InstanceNorm2d,
        InstanceNorm3d,
        LayerNorm,
        LocalResponseNorm,
        RMSNorm,
    )
    from graphc.nn.pooling import (
        AdaptiveAvgPool1d,
        AdaptiveAvgPool2d,
        AdaptiveAvgPool3d,
        AdaptiveMaxPool1d,
        AdaptiveMaxPool2d,
        AdaptiveMaxPool3d,
        AvgPool1d,
        AvgPool2d,
        AvgPool3d,
        MaxPool1d,
        MaxPool2d,
        MaxPool3d,
    )
    from graphc.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
    from graphc.nn.resampling import ChannelShuffle, PixelShuffle, PixelUnshuffle, Upsample, UpsamplingNearest2d
    from graphc.nn.transformer import (
        TransformerDecoder,
        TransformerDecoderLayer,
        TransformerEncoder,
        TransformerEncoderLayer,
    )
    from graphc.tensor import Parameter
else:
    __getattr__, __dir__ = imports_above(__name__)
