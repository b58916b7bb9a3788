"""`python -m cronicorn.probe URL [SECONDS]`: exits 0 when the address answers 200 within SECONDS (2), else 1."""

import http.client
import sys
from urllib.parse import urlsplit


def fault_at(url: str, timeout_s: float = 2.0) -> str | None:
    """Asks once, past any proxy; returns None for an answer of 200, otherwise what is wrong."""
    parts = urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        return "not an http address"
    connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout_s)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "cronicorn-probe", "Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return None if status == 200 else f"status {status}"


if __name__ == "__main__":
    fault = fault_at(sys.argv[1], *map(float, sys.argv[2:3]))
    sys.exit(f"{sys.argv[1]}: {fault}" if fault else 0)
