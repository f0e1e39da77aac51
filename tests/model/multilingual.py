"""A random encoder whose vocabulary has pieces of many scripts."""

from pathlib import Path

import torch
from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizer

MULTILINGUAL = ["bread", "буханка", "خبز", "パン", "面包"]


def write_multilingual_encoder(folder: Path) -> Path:
    """Save a random XLM-RoBERTa with word pieces of many scripts; its first positions are for padding."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(piece, -2.0) for piece in ("▁", *"".join(MULTILINGUAL))]
    vocabulary = list(dict.fromkeys(pieces))
    tokenizer = XLMRobertaTokenizer(vocab=vocabulary)
    tokenizer.save_pretrained(folder)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    XLMRobertaModel(config).save_pretrained(folder)
    return folder
