"""Stage ``prompts``: makes the prompt table from the templates."""

import torch

from bp_lcz.bands import GROUPS
from bp_lcz.model.backbones import complete_options
from bp_lcz.params import WORDINGS, Params, check_seeds
from bp_lcz.paths import PROMPTS
from bp_lcz.records import PromptOrigin
from bp_lcz.text.encoder import load_encoder
from bp_lcz.text.prompts import class_texts, prompt_texts
from bp_lcz.text.table import PromptTable


def run(params: Params) -> None:
    """Embed every class x group text once, so that training never calls the encoder."""
    # Checked here, since this stage runs whenever trials or backbones change.
    for trial in map(params.trial, params.trials):
        complete_options(trial.backbone, trial.backbone_options)
    check_seeds({", ".join(names): [params.trials[name].seed for name in names] for names in params.alike()})
    section = params.prompts
    texts = {wording: prompt_texts(section.template, wording) for wording in WORDINGS}
    encoder = load_encoder(section.encoder.name, section.encoder.revision)
    # Each wording has its own call, since the longest text of a call changes the last bits.
    flat = [[text for of_class in texts[wording] for text in of_class] for wording in WORDINGS]
    embedding = torch.stack([encoder(each).unflatten(0, (-1, len(GROUPS))) for each in flat])
    classes = torch.stack([encoder(class_texts(section.class_template, wording)) for wording in WORDINGS])
    origin = PromptOrigin(
        texts=texts,
        template=section.template,
        class_template=section.class_template,
        encoder=encoder.name,
        revision=encoder.revision,
        sha256=encoder.sha256,
    )
    PromptTable(embedding, classes, origin).write(PROMPTS)
    count = embedding.shape[:3].numel() + classes.shape[:2].numel()
    print(f"{count} prompts embedded by {encoder.name} ({encoder.width} values each) -> {PROMPTS}")
