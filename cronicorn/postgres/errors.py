"""The one exception of the embedded PostgreSQL."""

from django.db.utils import OperationalError


class EmbeddedPostgresError(OperationalError):
    """The embedded server cannot be used; the message names the fault and the remedy.

    It is an OperationalError, so that callers treat it as any other database that is away.
    """


def failure(fault: str, output: str, remedy: str) -> EmbeddedPostgresError:
    """Return the error for a program that failed: the fault, the remedy that its output points to, and its last lines.

    `remedy` is given when the output contains no known cause.
    """
    for symptom, known in _REMEDIES:
        if symptom in output:
            remedy = known
            break
    tail = "\n".join(output.strip().splitlines()[-15:]) or "(it wrote nothing)"
    return EmbeddedPostgresError(f"{fault} {remedy}\nIts last lines:\n{tail}")


_REMEDIES = (
    ("No space left on device", "The disk (or /dev/shm) is full: free some space and try again."),
    ("Disk quota exceeded", "The disk quota is used up: free some space and try again."),
    (
        "Read-only file system",
        "Its folder is on a read-only file system: set DATA_DIR to a folder that can be written.",
    ),
    ("could not look up effective user ID", "Run as a user that has an account (a line in /etc/passwd)."),
    ("Cannot allocate memory", "There is not enough memory: stop other programs or set DATABASE_URL."),
    ("Address already in use", "Another server holds its socket: stop that server first."),
    ("shared memory block", "Processes of an earlier server still use its folder: end them, then try again."),
    ("Permission denied", "A file in its folder belongs to another user: give the folder to the user who starts it."),
)
