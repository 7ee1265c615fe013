# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Any Hugging Face text encoder, by name, by folder or from a config."""

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.checkpoints.hugging_face import from_pretrained
from referformer.checkpoints.initial import needs_initial_weights
from referformer.errors import (
    ConfigError,
    DataError,
    check_choice,
)
from referformer.models.layers import SinePositionalEncoding1D
from referformer.models.text_encoders.hash_tokenizer import too_long
from referformer.registry import MODELS, TASK_UTILS
from referformer.structures import TextFeatures, TextTokens
from referformer.utils.precision import without_autocast
from referformer.utils.transfer import send

#: Language models that take a mask of shape (N, 1, L, L) as it is.
_TAKE_FULL_MASK = ('bert', 'roberta', 'xlm-roberta')
#: What a config of transformers says beside the shape of the network.
_NOT_OF_THE_NETWORK = (
    '_name_or_path',
    'architectures',
    'dtype',
    'torch_dtype',
    'transformers_version',
)


class TextProjection(BaseModule):
    """Map language features to the transformer's channels.

    Args:
        in_channels (int): Channels of the text encoder.
        embed_dims (int): Channels C.
        dropout (float): Dropout rate.
    """

    def __init__(
        self, in_channels: int, embed_dims: int, dropout: float
    ) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, embed_dims)
        self.layer_norm = nn.LayerNorm(embed_dims, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Project ``x`` of shape (..., in_channels) to (..., C)."""
        return self.dropout(self.layer_norm(self.fc(x)))


@MODELS.register_module()
class HFTextEncoder(BaseModule):
    """Words and sentence features from a Hugging Face encoder (Sec. 3.2).

    The weights come from ``pretrained`` (a hub name or a local folder), or
    are random when only ``hf_config`` is given, which needs no network. One
    projection maps words and sentence alike.

    Args:
        pretrained (str, optional): Hub name such as ``'roberta-base'`` or a
            folder. A hub name is looked for as ``<local_root>/<name>`` first.
        hf_config (dict, optional): ``model_type`` and the arguments of its
            configuration class, for a model with random weights.
        tokenizer (str | dict, optional): Name or folder of the tokenizer, or
            the config of one registered in ``TASK_UTILS``. Defaults to
            ``pretrained``.
        embed_dims (int): Channels C of the output.
        pooling (str): Sentence feature: ``'pooler'`` (the encoder's own),
            ``'first'`` token, or ``'mean'`` over tokens.
        dropout (float): Dropout rate after the projection.
        frozen (bool): Whether the encoder gets no gradient. Its dropout
            stays active in training, as published.
        local_root (str): Folder searched before the hub.
        init_cfg (dict, optional): Initialisation config of mmengine.

    Raises:
        ConfigError: If neither or both of ``pretrained`` and ``hf_config``
            are given, or ``pooling`` is unknown.
        MissingCheckpointError: If the pretrained files can be had neither
            locally nor from the hub.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        hf_config: dict | None = None,
        tokenizer: str | dict | None = None,
        embed_dims: int = 256,
        pooling: str = 'pooler',
        dropout: float = 0.1,
        frozen: bool = False,
        local_root: str = 'checkpoints',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if (pretrained is None) == (hf_config is None):
            raise ConfigError(
                'text_encoder takes either pretrained (a name or folder) or '
                'hf_config (random weights), got '
                f'pretrained={pretrained!r} and hf_config={hf_config!r}'
            )
        check_choice('pooling', pooling, ('pooler', 'first', 'mean'))
        self.local_root = local_root
        self.pooling = pooling
        self.language_model = self._build_model(pretrained, hf_config)
        self.tokenizer = self._build_tokenizer(tokenizer or pretrained)
        self.projection = TextProjection(
            self.language_model.config.hidden_size, embed_dims, dropout
        )
        self.word_pos = SinePositionalEncoding1D(embed_dims)
        if frozen:
            self.language_model.requires_grad_(False)
        elif pooling != 'pooler':
            # a parameter without gradient would stop a distributed training
            unused = getattr(self.language_model, 'pooler', None)
            if unused is not None:
                unused.requires_grad_(False)

    def _build_model(
        self, pretrained: str | None, hf_config: dict | None
    ) -> nn.Module:
        from transformers import AutoConfig, AutoModel

        if hf_config is not None:
            args = dict(hf_config)
            config = AutoConfig.for_model(args.pop('model_type'), **args)
            model = AutoModel.from_config(config)
        elif needs_initial_weights():
            model = from_pretrained(AutoModel, pretrained, self.local_root)
        else:
            config = from_pretrained(AutoConfig, pretrained, self.local_root)
            model = AutoModel.from_config(config)
        self._whole_config = model.config
        # two-tower and encoder-decoder models carry the text encoder inside
        if hasattr(model, 'text_model'):
            model = model.text_model
        elif getattr(model.config, 'is_encoder_decoder', False):
            model = model.get_encoder()
        return model

    def _build_tokenizer(self, source: str | dict | None) -> Any:
        if source is None:
            return None
        if isinstance(source, dict):
            return TASK_UTILS.build(source)
        from transformers import AutoTokenizer

        return from_pretrained(AutoTokenizer, source, self.local_root)

    def describe(self) -> dict[str, Any]:
        """Return the ``hf_config`` of the language model, however built."""
        config = self._whole_config.to_diff_dict()
        config['model_type'] = self._whole_config.model_type
        for key in _NOT_OF_THE_NETWORK:
            config.pop(key, None)
        return config

    def init_weights(self) -> None:
        """Leave the language model as loaded.

        mmengine would otherwise call the ``init_weights`` of transformers,
        which overwrites pretrained weights.
        """
        self._is_init = True

    def tokenize(self, texts: Sequence[str]) -> TextTokens:
        """Turn expressions into token ids.

        Args:
            texts (Sequence[str]): N expressions.

        Returns:
            TextTokens: On the encoder's device, padded to the longest.

        Raises:
            ConfigError: If no tokenizer was configured.
            DataError: If a text is empty, or longer than the encoder reads.
        """
        if self.tokenizer is None:
            raise ConfigError(
                'text_encoder has no tokenizer: set text_encoder.tokenizer '
                "to a folder, a hub name or dict(type='HashTokenizer')"
            )
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise DataError(
                    f'an expression must be a non-empty string, got {text!r}',
                    value=text,
                )
        device = next(self.projection.parameters()).device
        if hasattr(self.tokenizer, 'model_max_length'):
            limit = self.tokenizer.model_max_length
            batch = self.tokenizer(
                list(texts), padding='longest', return_tensors='pt'
            )
            tokens = TextTokens(batch['input_ids'], batch['attention_mask'])
            for text, mask in zip(texts, tokens.attention_mask, strict=True):
                # as integers: "no limit" is one that no tensor can hold
                if int(mask.sum()) > limit:
                    raise too_long(text, int(mask.sum()), limit)
        else:
            tokens = self.tokenizer(texts)
        return TextTokens(
            send(tokens.ids, device),
            send(tokens.attention_mask, device),
            padded=not tokens.attention_mask.all(),
        )

    def _mask_of(self, tokens: TextTokens) -> Tensor | None:
        """Attention mask for the language model.

        transformers looks whether any token is padding, for which the host
        waits until the device is idle. While a CUDA graph is recorded, it
        does not look, and some versions (5.3.0) then make a mask even where
        none is given, for which PyTorch chooses another attention: results
        differ in their last bits. A mask of the shape that its attention
        takes is used as it is.
        """
        from transformers import masking_utils

        config = self.language_model.config
        if (
            config.model_type not in _TAKE_FULL_MASK
            or config._attn_implementation != 'sdpa'
            or not hasattr(masking_utils, 'create_bidirectional_mask')
        ):
            return tokens.attention_mask if tokens.padded else None
        length = tokens.ids.shape[1]
        mask = tokens.attention_mask.bool()[:, None, None]
        return mask.expand(-1, -1, length, -1)

    def _pool(self, output: Any, words: Tensor, mask: Tensor) -> Tensor:
        """Sentence feature before the projection, shape (N, C_text)."""
        if self.pooling == 'pooler':
            pooled = getattr(output, 'pooler_output', None)
            if pooled is None:
                raise ConfigError(
                    f'{self.language_model.config.model_type} has no pooled '
                    "output: set text_encoder.pooling to 'mean' or 'first'"
                )
            return pooled
        if self.pooling == 'first':
            return words[:, 0]
        weight = mask.to(words.dtype)[..., None]
        return (words * weight).sum(1) / weight.sum(1)

    def forward(self, tokens: TextTokens) -> TextFeatures:
        """Encode expressions, in float32 under any autocast.

        Args:
            tokens (TextTokens): N expressions of L tokens.

        Returns:
            TextFeatures: Words (N, L, C), their positions, padding mask and
            sentence (N, C).

        Raises:
            ConfigError: If the encoder has no pooled output but ``pooling``
                asks for it.
        """
        # some ten tokens, which the whole clip is asked for
        with without_autocast(tokens.ids):
            return self._encode(tokens)

    def _encode(self, tokens: TextTokens) -> TextFeatures:
        output = self.language_model(
            input_ids=tokens.ids, attention_mask=self._mask_of(tokens)
        )
        words = output.last_hidden_state
        sentence = self._pool(output, words, tokens.attention_mask)
        padding_mask = tokens.attention_mask == 0
        return TextFeatures(
            words=self.projection(words),
            word_pos=self.word_pos(padding_mask),
            padding_mask=padding_mask if tokens.padded else None,
            sentence=self.projection(sentence),
        )
