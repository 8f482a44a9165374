"""Tags that a model's tokenizer splits become tokens of their own: a checkpoint -> the same with a few more words.

    tags that are missing -> added to the tokenizer -> their rows of the embedding: the mean of their pieces' rows

AXPO's prefix ends with the token of the opening tag, so the tag has to be a single one. The model has never seen the
new tokens: SFT teaches when to write them. Tags of thinking stay out: a model that does not think needs none.
"""

from typing import Any

import torch

from verl_axpo.tools.syntax import HERMES, CallSyntax


def add_tags(model: Any, tokenizer: Any, syntax: CallSyntax = HERMES) -> list[str]:
    """Add the tags of a call that the tokenizer splits, in place; does nothing if it knows them.

    Args:
        model: a Hugging Face model with an embedding, tied to its output or not.
        tokenizer: of the same model.
        syntax: whose opening and closing tags are added.

    Returns:
        the tags that were added.
    """
    pieces = {tag: tokenizer.encode(tag, add_special_tokens=False) for tag in (syntax.opening, syntax.closing)}
    added = [tag for tag, ids in pieces.items() if len(ids) > 1]
    if not added:
        return []
    # Not special: decoding keeps them, and the text between two tags can be read
    tokenizer.add_tokens(added)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:  # many models have spare rows
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    embeddings = [model.get_input_embeddings(), model.get_output_embeddings()]
    with torch.no_grad():
        for tag in added:
            for weight in (embedding.weight for embedding in embeddings if embedding is not None):
                weight[tokenizer.convert_tokens_to_ids(tag)] = weight[pieces[tag]].mean(dim=0)
    return added
