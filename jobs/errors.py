"""What the services refuse, and why. The API and the console turn these into answers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one field, by the field's name in the model; None is the request as a whole.

    `as_sent` tells that the name is the client's own, which is not translated.
    """

    field: str | None
    code: str
    message: str
    as_sent: bool = False


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands among values for one that could not be read, so that the others are still judged.

    `faults` are what is wrong with it; none where the person has been told already.
    """

    faults: tuple[Fault, ...] = ()


class InvalidInputError(Exception):
    """The input cannot be accepted; every fault is named."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        words = (f"{fault.field}: {fault.message}" if fault.field else fault.message for fault in faults)
        super().__init__("; ".join(words))


class ConflictError(Exception):
    """The state of the row forbids this, as running an archived endpoint does."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)
