"""The network: a backbone, band group prompting beside it, and the classifier on the augmented feature."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from bp_lcz.bands import Channels
from bp_lcz.model.backbones import build_backbone
from bp_lcz.model.group_encoder import GroupEncoder
from bp_lcz.model.msm import alignment_loss, alignment_target, prior_logit
from bp_lcz.params import Model, NetworkParams, Variant
from bp_lcz.scheme import CLASS_COUNT

LARGEST_LOGIT_SCALE = 100.0
"""Clamp of the learnable logit scale, as in CLIP."""


WHOLE_PATCH = "patch"
"""Stands for a band group where there are none."""


class Output(NamedTuple):
    """Output of the network for a batch.

    Attributes:
        logits: scores of the classes.
        alignment: scaled and biased similarity of image group g and the prompt of class c and group h; None where
            nothing is aligned.
        feature: the fused feature that was classified.
        groups: features of the image groups in the space of the prompts, of length 1; None without prompting.
    """

    logits: Float[Tensor, "batch klass"]
    alignment: Float[Tensor, "batch group klass group_text"] | None
    feature: Float[Tensor, "batch fused_width"]
    groups: Float[Tensor, "batch group dimension"] | None = None


class BandGroupPrompting(nn.Module):
    """Compares the group features of a backbone with frozen prompts, and augments the fused feature.

    Source: Lan et al. 2025 for the idea; the form of retrieval and augmentation is a choice of this project.
    """

    prompts: Float[Tensor, "klass group text_width"]

    def __init__(
        self,
        prompts: Float[Tensor, "klass group text_width"],
        group_width: int,
        fused_width: int,
        model: Model,
        variant: Variant,
    ) -> None:
        super().__init__()
        dimension, augment = model.dimension, model.augment
        class_count, group_count, text_width = prompts.shape
        self.register_buffer("prompts", prompts)
        self.project_image = nn.Linear(group_width, dimension)
        self.project_text = nn.Linear(text_width, dimension, bias=False)
        # Scales of SigLIP and of CLIP. The bias is learnt only where the loss can see it: a softmax does not change
        # when all its logits move together.
        pairwise = alignment_loss(variant, model) == "sigmoid"
        # math's logarithm: that of a tensor on the meta device imports PyTorch's compiler, which takes two seconds.
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0 if pairwise else 1 / 0.07)))
        prior = prior_logit(alignment_target(variant, model), model.alpha, class_count, group_count)
        self.bias = nn.Parameter(torch.tensor(prior)) if pairwise else 0.0
        self.visual = augment in ("visual", "both")
        self.text = augment in ("text", "both")
        added_width = group_count * dimension * (self.visual + self.text)
        self.augment = nn.Linear(added_width, fused_width, bias=False) if added_width else None
        self.project_text.requires_grad_(model.text_projection == "learnt")

    def forward(
        self, fused: Float[Tensor, "batch fused_width"], groups: Float[Tensor, "batch group group_width"]
    ) -> tuple[
        Float[Tensor, "batch fused_width"],
        Float[Tensor, "batch group klass group_text"],
        Float[Tensor, "batch group dimension"],
    ]:
        """The augmented fused feature, the alignment logits, and the image groups as unit vectors."""
        image = normalize(self.project_image(groups), dim=-1)
        text = normalize(self.project_text(self.prompts), dim=-1)
        similarity = self.scale * torch.einsum("bgd,chd->bgch", image, text)
        if self.augment is not None:
            added = [image] if self.visual else []
            if self.text:
                # Retrieval without the label: each group reads its own prompts, weighted by how well each
                # class matches.
                match = similarity.diagonal(dim1=1, dim2=3).softmax(dim=1)
                added.append(torch.einsum("bcg,cgd->bgd", match, text))
            fused = fused + self.augment(torch.cat(added, dim=-1).flatten(1))
        return fused, similarity + self.bias, image

    def between(self, image: Float[Tensor, "batch group dimension"]) -> Float[Tensor, "batch group batch group"]:
        """Alignment logits of image groups among themselves."""
        return self.scale * torch.einsum("bgd,chd->bgch", image, image) + self.bias

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Factor of the cosine similarity in the alignment logits."""
        return self.log_scale.exp()

    @torch.no_grad()
    def bound_scale(self) -> None:
        """Bound the scale; call it after each step of the optimiser.

        The parameter is clamped, as CLIP does. If the result were clamped instead, its gradient beyond the bound would
        be zero, and the scale could never come back.
        """
        self.log_scale.clamp_(max=math.log(LARGEST_LOGIT_SCALE))

    def cosine(
        self, alignment: Float[Tensor, "batch group klass group_text"]
    ) -> Float[Tensor, "batch group klass group_text"]:
        """Cosine similarities from alignment logits."""
        return (alignment - self.bias) / self.scale


class BPLCZ(nn.Module):
    """Classifier of transformed patches.

    Args:
        form: backbone, variant and sizes.
        channels: the channels of the data set.
        prompts: embeddings of the prompts of the data set's groups, or for the variant ``msm`` of the classes, as a
            single group; not used by the variant ``plain``. The variant ``encoder`` is the network of ``bgp`` without
            an alignment, and is given vectors that know of no text.
        mean: of each transformed channel in the training split, Sentinel-1 first.
        std: likewise.

    Attributes:
        groups: names of the band groups of the sensors that the backbone looks at; prompting keeps to them. A single
            one, the whole patch, for the variant ``msm``.
        is_aligned: whether image groups learn to resemble prompts.
    """

    mean: Float[Tensor, "channel"]
    std: Float[Tensor, "channel"]

    def __init__(
        self,
        form: NetworkParams,
        channels: Channels,
        prompts: Float[Tensor, "klass group text_width"],
        mean: Float[Tensor, "channel"],
        std: Float[Tensor, "channel"],
    ) -> None:
        super().__init__()
        self.sen1_count = len(channels.sen1)
        # Normalisation is part of the network, so that a model cannot be served with another data set's.
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.backbone = build_backbone(form.backbone, channels, form.backbone_options)
        fused_width, group_width = self.backbone.fused_width, self.backbone.group_width
        self.groups = (
            [WHOLE_PATCH]
            if form.variant == "msm"
            else [
                group
                for group, (first, *_) in channels.groups.items()
                if ("sen1" if first < self.sen1_count else "sen2") in self.backbone.sensors
            ]
        )
        self.group_encoder: GroupEncoder | None = None
        self.prompting: BandGroupPrompting | None = None
        self.is_aligned = form.variant not in ("plain", "encoder")
        if form.variant != "plain":
            assert form.model is not None  # NetworkParams refuses it
            model = form.model
            if form.variant == "msm":
                # MSM alone: one feature of the patch against the classes, which augments nothing.
                group_width, model = fused_width, model.model_copy(update={"augment": "none"})
            else:
                prompts = prompts[:, [list(channels.groups).index(group) for group in self.groups]]
            if group_width is None:
                self.group_encoder = GroupEncoder(channels, self.groups)
                group_width = self.group_encoder.group_width
            self.prompting = BandGroupPrompting(prompts, group_width, fused_width, model, form.variant)
        self.classifier = self.backbone.classifier(CLASS_COUNT)

    def forward(
        self,
        sen1: Float[Tensor, "batch channel1 row column"],
        sen2: Float[Tensor, "batch channel2 row column"],
    ) -> Output:
        """Class logits, and alignment logits where there is prompting, of transformed images."""
        parts = (sen1, slice(None, self.sen1_count)), (sen2, slice(self.sen1_count, None))
        return self.of_standardised(
            *(self.standardise(images.permute(0, 2, 3, 1), part).permute(0, 3, 1, 2) for images, part in parts)
        )

    def standardise(
        self, images: Float[Tensor, "*shape channel"], part: slice = slice(None)
    ) -> Float[Tensor, "*shape channel"]:
        """Transformed pixels by the training split's mean and deviation, pixel by pixel; on the device of the images.

        Args:
            images: all channels, or those of a part.
            part: the channels that they have.
        """
        return (images - self.mean[part].to(images.device)) / self.std[part].to(images.device)

    def of_standardised(
        self,
        sen1: Float[Tensor, "batch channel1 row column"],
        sen2: Float[Tensor, "batch channel2 row column"],
    ) -> Output:
        """As `forward`, of standardised images."""
        fused, groups = self.backbone(sen1, sen2)
        if self.prompting is None:
            return Output(self.classifier(fused), None, fused)
        if self.group_encoder is not None:
            groups = self.group_encoder(sen1, sen2)
        if self.groups == [WHOLE_PATCH]:
            groups = fused.unsqueeze(1)
        fused, alignment, image = self.prompting(fused, groups)
        return Output(self.classifier(fused), alignment if self.is_aligned else None, fused, image)
