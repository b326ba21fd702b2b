"""Which trials of a matrix are compared with which others, whether they have run or not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from bp_lcz.params import Variant
from bp_lcz.scoring.results import value_text


@runtime_checkable
class Setting(Protocol):
    """Trials that differ in nothing but the seed."""

    @property
    def label(self) -> str:
        """What the names of the trials have in common."""

    @property
    def backbone(self) -> str:
        """Name of the backbone."""

    @property
    def variant(self) -> Variant:
        """Name of the variant."""

    @property
    def overrides(self) -> Mapping[str, Any]:
        """Values that differ from the common sections of ``params.yaml``, by dotted key such as ``model.alpha``."""

    @property
    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        """All values, in the sections ``train``, ``model``, ``prompts`` and ``backbone_options``."""


SettingT = TypeVar("SettingT", bound=Setting)


def pairs(groups: Sequence[SettingT]) -> Iterator[tuple[SettingT, SettingT]]:
    """Pairs of trials to compare: each setting with its plain backbone, its controls and the first backbone."""
    for group in groups:
        plain = None if group.variant == "plain" else plain_partner(group, groups)
        others = [*filter(None, [plain]), *_controls(group, groups), *_of_first_backbone(group, groups)]
        yield from ((group, other) for other in others)


def plain_partner(group: SettingT, groups: Sequence[SettingT]) -> SettingT | None:
    """The plain trials of the same backbone, if possible trained with the same overrides."""
    plain = [each for each in groups if each.variant == "plain" and each.backbone == group.backbone]

    def kept(each: SettingT) -> dict[str, Any]:
        return {key: value for key, value in each.overrides.items() if not key.startswith(("model.", "prompts."))}

    alike = [each for each in plain if kept(each) == kept(group)]
    default = [each for each in plain if not each.overrides]
    return next(iter(alike + default + plain), None)


def factors(
    groups: Sequence[SettingT],
) -> Iterator[tuple[str, list[tuple[str, SettingT]], SettingT | None]]:
    """Title, members with their setting, and default of each factor that some trials vary."""
    for backbone in dict.fromkeys(group.backbone for group in groups if group.overrides):
        of_backbone = [group for group in groups if group.backbone == backbone]
        default = {group.variant: group for group in of_backbone if not group.overrides}
        if len(default) > 1 and "bp-lcz" in default:
            yield f"{backbone}: parts", list(default.items()), default["bp-lcz"]
        for variant in dict.fromkeys(group.variant for group in of_backbone if group.overrides):
            varied = [group for group in of_backbone if group.variant == variant and group.overrides]
            for keys in _factor_keys(varied):
                members = [group for group in varied if set(group.overrides) <= keys]
                if variant in default:
                    members.insert(0, default[variant])
                ordered = sorted(keys)
                named = [(", ".join(value_text(_value(group, key)) for key in ordered), group) for group in members]
                names = " × ".join(key.partition(".")[2] for key in ordered)
                yield f"{backbone} {variant}: {names}", named, default.get(variant)


def _controls(group: SettingT, groups: Sequence[SettingT]) -> list[SettingT]:
    """Controls: the same layers without prompting, and the same trials with vectors that are not those of texts."""

    def settings(each: SettingT) -> dict[str, Any]:
        return {key: value for key, value in each.overrides.items() if key != "prompts.source"}

    alike = [each for each in groups if each.backbone == group.backbone and settings(each) == settings(group)]
    source = group.settings["prompts"]["source"]
    return [
        each
        for each in alike
        if source == "text"
        and group.variant in ("bgp", "bp-lcz")
        and (each.variant == "encoder" or (each.variant == group.variant and each is not group))
    ]


def _of_first_backbone(group: SettingT, groups: Sequence[SettingT]) -> list[SettingT]:
    """The same setting with the backbone that the matrix names first, if that is another one."""
    alike = [each for each in groups if (each.variant, each.overrides) == (group.variant, group.overrides)]
    return [each for each in alike if each.backbone == groups[0].backbone != group.backbone]


def _factor_keys(groups: Sequence[Setting]) -> list[frozenset[str]]:
    """Sets of keys that vary together; a subset of another set is shown with that set."""
    sets = list(dict.fromkeys(frozenset(group.overrides) for group in groups))
    return [keys for keys in sets if not any(keys < other for other in sets)]


def _value(group: Setting, key: str) -> Any:
    section, _, name = key.partition(".")
    return group.settings["backbone_options" if section == "backbone" else section][name]
