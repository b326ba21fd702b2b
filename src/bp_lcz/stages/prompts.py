"""Stage ``prompts``: from the template to the prompt table."""

from bp_lcz.bands import GROUPS
from bp_lcz.params import Params
from bp_lcz.paths import PROMPTS
from bp_lcz.records import PromptOrigin
from bp_lcz.text.encoder import load_encoder
from bp_lcz.text.prompts import class_texts, prompt_texts
from bp_lcz.text.table import PromptTable


def run(params: Params) -> None:
    """Embed every class x group text once, so that training never calls the encoder."""
    section = params.prompts
    texts = prompt_texts(section.template)
    encoder = load_encoder(section.encoder.name, section.encoder.revision)
    flat = [text for of_class in texts for text in of_class]
    embedding = encoder(flat).reshape(len(texts), len(GROUPS), encoder.width)
    origin = PromptOrigin(
        texts=texts,
        template=section.template,
        class_template=section.class_template,
        encoder=encoder.name,
        revision=encoder.revision,
        sha256=encoder.sha256,
    )
    table = PromptTable(embedding, encoder(class_texts(section.class_template)), origin)
    table.write(PROMPTS)
    print(f"{len(flat) + len(texts)} prompts embedded by {encoder.name} ({encoder.width} values each) -> {PROMPTS}")
