"""The terms of teachers: declared, read from weights, or known of a provider; what they stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekd.app import build, provenance
from edgekd.bundle import licences, sbom, teacher_terms, use_check
from edgekd.bundle.licences import DataTerms, LogTerms, NetworkTerms, Parts
from edgekd.bundle.provider_terms import TABLE, Basis, OutputUse, of_model
from edgekd.core.errors import EdgeKDError, GateFailed, RecipeError, UnknownName
from edgekd.networks import weight_licences
from edgekd.settings import model_specs, recipe
from edgekd.settings.recipe import CardConfig

GPT = "gpt-4o-2024-08-06"


@pytest.mark.parametrize(
    ("name", "provider", "use"),
    [
        (GPT, "OpenAI", "non-commercial"),
        ("ft:gpt-4o-mini:org", "OpenAI", "non-commercial"),
        ("o3-mini", "OpenAI", "non-commercial"),
        ("azure/gpt-4o", "Microsoft Azure OpenAI", "non-commercial"),
        ("openai/gpt-oss-20b", "OpenAI, gpt-oss", "any"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "Anthropic", "non-commercial"),
        ("models/gemini-2.5-pro", "Google Gemini API", "non-commercial"),
        ("Meta-Llama-3-8B-Instruct", "Meta, Llama 2 and 3", "no-training"),
        ("llama-3-70b", "Meta, Llama 2 and 3", "no-training"),
        ("meta.llama3-1-70b-instruct-v1:0", "Meta, Llama 3.1 to 3.3", "any"),
        ("llama3.2-vision:11b", "Meta, Llama 3.1 to 3.3", "any"),
        ("Llama 4 Scout", "Meta, Llama 4", "any"),
        ("pixtral-large-latest", "Mistral AI", "non-commercial"),
        ("command-r-plus", "Cohere", "non-commercial"),
        ("amazon.nova-pro-v1:0", "Amazon Nova, Titan and Rekognition", "non-commercial"),
        ("deepseek-r1", "DeepSeek", "any"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Alibaba Qwen, open weights", "any"),
        ("Qwen2.5-VL-3B", "Alibaba Qwen, research licence", "non-commercial"),
        ("grok-2-vision", "xAI", "non-commercial"),
    ],
)
def test_usual_models_are_known_by_name(name: str, provider: str, use: str) -> None:
    row = of_model(name)
    assert row is not None
    assert (row.provider, row.use) == (provider, use)


@pytest.mark.parametrize("name", ["vit-7", "resnet50", "qwen-vl-max", "o2net", "recommander", ""])
def test_other_models_are_not_guessed(name: str) -> None:
    assert of_model(name) is None


def test_what_could_not_be_read_allows_nothing() -> None:
    for row in TABLE:
        assert row.source.startswith("https://")
        assert row.basis is not Basis.UNVERIFIED or row.use is not OutputUse.ANY, row.provider


def test_terms_are_declared_for_all_teachers_or_for_each() -> None:
    both = teacher_terms.declared("MIT", ["teacher", "teacher2"])
    assert {role: (terms.use, terms.licence) for role, terms in both.items()} == {
        "teacher": ("any", "MIT"),
        "teacher2": ("any", "MIT"),
    }
    one = teacher_terms.declared({"log": "any: agreement of 2026-03-01"}, ["log"])["log"]
    assert one.use is OutputUse.ANY
    assert "agreement of 2026-03-01" in one.source
    assert teacher_terms.declared("cc-by-nc-4.0", ["log"])["log"].use is OutputUse.NON_COMMERCIAL
    with pytest.raises(UnknownName, match="teacher3"):
        teacher_terms.declared({"teacher3": "any"}, ["teacher"])
    with pytest.raises(RecipeError, match="expected any, commercial"):
        teacher_terms.declared("they said yes", ["teacher"])


def test_settings_take_a_text_a_table_and_single_entries() -> None:
    assert recipe.load(None, ["teacher.terms=any"]).teacher.terms == "any"
    both = recipe.load(None, ['teacher.terms={log = "any"}', "teacher.terms.teacher2=MIT"])
    assert both.teacher.terms == {"log": "any", "teacher2": "MIT"}
    again = recipe.load(None, (), {"teacher.terms": {"log": "any"}})
    assert 'terms]\nlog = "any"' in recipe.to_toml(again)
    with pytest.raises(RecipeError, match=r"teacher\.terms"):
        recipe.load(None, ["teacher.terms.log=7"])


def test_licences_of_weights(tmp_path: Path) -> None:
    resnet, vit = model_specs.spec("resnet18"), model_specs.spec("vit_small_patch14_dinov2")
    stated = tmp_path / "stated.safetensors"
    header = json.dumps({"__metadata__": {"license": "CC-BY-NC-4.0"}}).encode()
    stated.write_bytes(len(header).to_bytes(8, "little") + header)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\xff" * 20)
    for spec, weights, licence in (
        (resnet, "none", "Apache-2.0 (timm)"),
        (model_specs.spec("regnety_002"), "", "Apache-2.0 (timm)"),
        (resnet, str(stated), "CC-BY-NC-4.0"),
        (resnet, str(damaged), "not stated for the weights in damaged.safetensors"),
        (resnet, "mine.pt", "not stated for the weights in mine.pt"),
        (vit, "dinov2.pth", "Apache-2.0"),
        (model_specs.spec("convnextv2_atto"), "hub", "CC-BY-NC-4.0"),
        (resnet, "hub", "Apache-2.0"),
        (model_specs.spec("mobileone_s0"), "hub", "not known to EdgeKD: check before"),
    ):
        assert licence in weight_licences.of_weights(spec, weights), spec.name


def log(folder: Path, model: str) -> str:
    file = folder / "answers.csv"
    file.write_text(f"image,model,class_1,p_1\nsynthetic-0000000,{model},normal,0.9\n")
    return str(file)


def job(folder: Path, model: str, use: str = "commercial", **more: str) -> provenance.Job:
    values = {"distil.logs": log(folder, model), "card.use": use, "data.source": "phantom:120@40"}
    values |= {key.replace("__", "."): value for key, value in more.items()}
    return build.job(recipe.load(None, (), values), "pi4")


@pytest.mark.parametrize(
    ("model", "kind", "parts"),
    [
        (GPT, GateFailed, ("answers.csv", GPT, "OpenAI Services", "https://", "teacher.terms.log")),
        ("claude-opus-4", GateFailed, ("answers.csv", "claude-opus-4", "Anthropic")),
        ("vit-7", GateFailed, ("answers.csv", "vit-7", "not known", "teacher.terms.log=")),
        ("", GateFailed, ("answers.csv", "not known")),
        ("llama-2-7b", RecipeError, ("answers.csv", "llama-2-7b", "forbid training")),
        ("llama-3.3-70b", GateFailed, ("answers.csv", 'begins with "Llama"', "card.name=Llama")),
    ],
)
def test_a_log_that_may_not_be_used_stops_the_build_before_it_starts(
    tmp_path: Path, model: str, kind: type[EdgeKDError], parts: tuple[str, ...]
) -> None:
    with pytest.raises(kind) as refused:
        job(tmp_path, model)
    for part in parts:
        assert part in str(refused.value)


def test_the_log_is_named_for_the_uses_that_it_allows(tmp_path: Path) -> None:
    made = job(tmp_path, GPT, "non-commercial")
    source = provenance.lineage(made, {}).sources["log"]
    assert (source.name, source.licence) == (GPT, "OpenAI: OpenAI Services Agreement")
    body = provenance.licence_chain(made, {})
    (row,) = (row for row in body.links if row.name == GPT)
    assert (row.non_commercial, row.unknown, row.outputs) == (True, False, "non-commercial")
    assert body.result.startswith("non-commercial use only")
    bill = sbom.bill("m", "1", {"model.tflite": b""}, body, 2)
    (part,) = (part for part in bill["components"] if part["name"] == GPT)  # type: ignore[union-attr, index]
    assert part["type"] == "machine-learning-model"
    assert "https://openai.com" in part["description"]


def test_a_declaration_allows_the_use(tmp_path: Path) -> None:
    made = job(tmp_path, GPT, teacher__terms="any: agreement 7")
    body = provenance.licence_chain(made, {})
    assert (body.tainted_by, body.unknown) == ([], [])
    (row,) = (row for row in body.links if row.name == GPT)
    assert "agreement 7" in str(row.terms)
    job(tmp_path, "vit-7", card__teacher_licence="MIT")


def test_each_part_can_be_declared_by_the_setting_that_the_message_names() -> None:
    spec = model_specs.spec("resnet18")
    unknown = "not stated for the weights in mine.pt"
    networks = tuple(
        NetworkTerms(role, spec, "mine.pt", unknown) for role in ("teacher", "teacher2", "student")
    )
    found = Parts(
        DataTerms("mine", "not stated", ""), networks, unlabelled=DataTerms("more", "", "")
    )

    with pytest.raises(GateFailed) as refused:
        use_check.check(found, CardConfig(use="commercial"))
    for key in (
        "card.data_licence",
        "card.unlabelled_licence",
        "teacher.terms.teacher",
        "teacher.terms.teacher2",
        "card.student_licence",
    ):
        assert f"--set {key}=LICENCE" in refused.value.next_step
    assert len(use_check.warnings(found, CardConfig())) == 2
    stated = CardConfig(
        use="commercial", data_licence="MIT", unlabelled_licence="MIT", student_licence="MIT"
    )
    terms = teacher_terms.declared("any", ["teacher", "teacher2"])
    declared = tuple(
        NetworkTerms(each.role, spec, each.origin, unknown, terms.get(each.role))
        for each in networks
    )
    use_check.check(Parts(found.data, declared, unlabelled=found.unlabelled), stated)


def test_a_logs_teacher_may_be_unknown_where_no_use_is_declared() -> None:
    found = LogTerms("vit-7", "answers.csv", teacher_terms.of_log("vit-7", None))
    row = licences.log_link(found)
    assert (row.unknown, row.licence) == (True, "not stated")
