"""The mutants still match the code that they change."""

import pytest

from tests.chaos.mutants import MUTANTS, PROJECT_DIR, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_change_of_a_mutant_finds_its_place_and_every_test_exists(mutant: Mutant) -> None:
    source = (PROJECT_DIR / mutant.file).read_text(encoding="utf-8")
    for safeguard, _ in mutant.changes:
        assert safeguard in source
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (PROJECT_DIR / path).read_text(encoding="utf-8")
