"""The one table of what an error of the database asks for."""

import psycopg
import pytest
from django.db import DataError, InterfaceError, OperationalError, ProgrammingError
from psycopg import errors

from cronicorn.postgres.sqlstate import Remedy, remedy_of, sqlstate_of, unavailable_reason


def caused(outer: Exception, inner: BaseException | None) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("states", "remedy"),
    [
        ("22001 22003 22021 22P02 22P05 23505 23503 23514 54000 54001", Remedy.ROW),
        ("40001 40P01 53200 53400 55P03 55006 57014 58030 58P01 P0001 XX000 XX001", Remedy.SMALLER),
        ("08006 0A000 23502 25006 26000 28000 28P01 3D000 3F000 42501 42601 42703 42804 42883 42P01", Remedy.WAIT),
        ("53100 53300 57P01 57P02 57P03 57P04 57P05 99999", Remedy.WAIT),
    ],
)
def test_only_a_value_that_cannot_be_stored_may_cost_a_row(states: str, remedy: Remedy) -> None:
    for state in states.split():
        inner = psycopg.Error("refused")
        inner.sqlstate = state
        assert remedy_of(caused(ProgrammingError("refused"), inner)) is remedy, state
        assert remedy_of(inner) is remedy, state


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (caused(OperationalError("lost"), psycopg.OperationalError("lost")), Remedy.WAIT),
        (caused(InterfaceError("closed"), psycopg.InterfaceError("closed")), Remedy.WAIT),
        (OperationalError("the embedded server cannot be started"), Remedy.WAIT),
        (caused(DataError("NUL"), psycopg.DataError("NUL")), Remedy.ROW),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), Remedy.ROW),
        (ValueError("too large"), Remedy.ROW),
    ],
    ids=lambda value: str(value),
)
def test_error_without_a_code_is_a_lost_connection_or_a_value(error: Exception, remedy: Remedy) -> None:
    assert remedy_of(error) is remedy


def test_code_is_found_behind_the_errors_of_django() -> None:
    inner = errors.InsufficientPrivilege("no")
    assert sqlstate_of(caused(ProgrammingError("a"), caused(ProgrammingError("b"), inner))) == "42501"


def test_fault_of_our_own_has_no_reason_for_people() -> None:
    assert unavailable_reason(ValueError("x")) is None
    assert unavailable_reason(caused(ProgrammingError("x"), errors.SyntaxError("x"))) is None
    assert unavailable_reason(caused(DataError("x"), errors.StringDataRightTruncation("x"))) is None
    assert unavailable_reason(None) is None
