"""Stage ``prompts``: from the template to the prompt table."""

from bp_lcz.bands import GROUPS
from bp_lcz.params import Params
from bp_lcz.paths import PROMPTS
from bp_lcz.text.encoder import load_encoder
from bp_lcz.text.prompts import prompt_texts
from bp_lcz.text.table import PromptTable


def run(params: Params) -> None:
    """Embed every class x group text once, so that training never calls the encoder."""
    texts = prompt_texts(params.prompts.template)
    encoder = load_encoder(params.prompts.encoder.name, params.prompts.encoder.revision)
    flat = [text for of_class in texts for text in of_class]
    embedding = encoder(flat).reshape(len(texts), len(GROUPS), encoder.width)
    table = PromptTable(embedding, texts, params.prompts.template, encoder.name, encoder.revision, encoder.sha256)
    table.write(PROMPTS)
    print(f"{len(flat)} prompts embedded by {encoder.name} ({encoder.width} values each) -> {PROMPTS}")
