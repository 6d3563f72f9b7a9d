"""certificate.json as records: what certify writes is read back whole, and a wrong file is named by
its field.
"""

from __future__ import annotations

import copy

import msgspec
import pytest

from edgekd.core.errors import ModelFileError
from edgekd.core.records import UNSET, from_json, to_json
from edgekd.proof.certificate import Gates
from edgekd.proof.certificate_record import CertificateBody, Failure
from edgekd.proof.failures import MAX_FAILURES, Failures
from edgekd.settings.recipe import CertifyConfig
from tests.faulty import build


@pytest.fixture(scope="module")
def body() -> dict:
    return build("Branches").certificate()


def test_a_certificate_is_read_back_whole(body: dict) -> None:
    read = from_json(CertificateBody, msgspec.json.decode(msgspec.json.encode(body)), "c.json")
    assert to_json(read) == body
    fields = CertificateBody.__struct_fields__
    assert list(body) == [name for name in fields if getattr(read, name) is not UNSET]
    assert read.bound is not None
    assert read.edges is not None
    assert set(read.op_local.families) == {"xnnpack", "builtin", "reference"}


@pytest.mark.parametrize(
    ("path", "value"),
    [("ranges.identical", "71"), ("bound.labels", [1]), ("op_local.by_op", {}), ("passed", None)],
)
def test_a_wrong_field_is_named(body: dict, path: str, value: object) -> None:
    wrong = copy.deepcopy(body)
    *parents, last = path.split(".")
    place = wrong
    for key in parents:
        place = place[key]
    place[last] = value
    with pytest.raises(ModelFileError, match=path.replace(".", r"\.")):
        from_json(CertificateBody, wrong, "certificate.json")


def test_a_failure_names_one_place() -> None:
    failures = Failures()
    for number in range(MAX_FAILURES + 3):
        failures.add("weights", "tensor", f"t{number}", 1, 2)
    failures.add("labels", "file", "labels.txt", [], "none")
    assert (len(failures.rows), failures.count) == (MAX_FAILURES, MAX_FAILURES + 4)
    assert failures.rows[3].place == "t3"
    assert to_json(failures.rows[0]).keys() == {
        "check",
        "tensor",
        "expected",
        "found",
        "next_step",
    }
    assert Failure(check="c", op="ADD #3", expected=1, found=2, next_step="").place == "ADD #3"


def test_the_gates_are_the_recipes() -> None:
    recipe = CertifyConfig()
    assert Gates() == Gates(recipe.max_lsb, recipe.min_agreement)
