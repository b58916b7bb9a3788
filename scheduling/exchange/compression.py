"""Decompresses bodies that came compressed although they were asked for as they are. Pure.

Every layer yields at most `limit` bytes, whatever it would unfold to: memory and time are bounded by the sizes of the
input and of the limit, so a compression bomb ends like any other body that is too large.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import brotli

MAX_LAYERS = 4
# What a decompressor is fed at a time: small, so that it holds little that it has not yet been asked for.
_PIECE = 16_384
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,20}")
_ALIASES = {"x-gzip": "gzip", "x-deflate": "deflate"}


@dataclass(frozen=True, slots=True)
class Decompressed:
    """What could be read. `truncated`: more would have come; `flags` name what was done to the body.

    `decoded:gzip` was decompressed; `not_decoded:zstd` stands for a coding that is not known, or for data that is not
    in it: the body is then kept as it came; `incomplete:gzip` for data that ended early or is broken, of which the
    beginning was read.
    """

    data: bytes
    truncated: bool = False
    flags: tuple[str, ...] = ()


class _CorruptError(Exception):
    """The data is not in the coding; `data` is what came before the fault."""

    def __init__(self, data: bytes) -> None:
        self.data = data


def decompress(raw: bytes, content_encoding: str | None, *, limit: int, truncated: bool = False) -> Decompressed:
    """Undo the codings that `content_encoding` lists, the last one first; never raises.

    `truncated` says that bytes are missing at the end of `raw`, so that an unfinished stream is no fault of its own.
    """
    names = [name for part in (content_encoding or "").lower().split(",") if (name := part.strip())]
    names = [_ALIASES.get(name, name) for name in names if name != "identity"]
    data, flags, is_cut = raw, [], truncated
    for number, name in enumerate(reversed(names)):
        if not data:
            break
        decoder = _DECODERS.get(name) if number < MAX_LAYERS else None
        if decoder is None:
            flags.append(f"not_decoded:{name if _NAME.fullmatch(name) else 'unknown'}")
            break
        try:
            data, whole = decoder(data, limit)
        except _CorruptError as error:
            if not error.data:
                flags.append(f"not_decoded:{name}")
                break
            data, whole = error.data, None
        flags.append(f"decoded:{name}")
        if len(data) > limit:
            data, is_cut = data[:limit], True
        elif whole is None or not (whole or is_cut):
            flags.append(f"incomplete:{name}")
            is_cut = True
    return Decompressed(data, is_cut, tuple(sorted(flags)))


def unread_words(flag: str) -> str:
    """What the flag `not_decoded:...` or `incomplete:...` says, as one sentence."""
    state, _, name = flag.partition(":")
    if state == "incomplete":
        return f"The {name} data ended early or is broken; its beginning was read."
    if name in _DECODERS:
        return f"The body is called {name} and cannot be read as that; it is kept as it came."
    return f"The body is encoded as {name}, which is not read here; it is kept as it came."


def _pieces(data: bytes, careful_from: int) -> Iterator[tuple[int, bytes]]:
    """Yield the data in pieces with their places, those of the piece at `careful_from` byte by byte."""
    for start in range(0, len(data), _PIECE):
        if start != careful_from:
            yield start, data[start : start + _PIECE]
            continue
        for at in range(start, min(start + _PIECE, len(data))):
            yield start, data[at : at + 1]


def _inflate(data: bytes, limit: int, window_bits: int, careful_from: int = -1) -> tuple[bytes, bool]:
    """Return at most `limit` + 1 bytes, and whether the stream ended; members of gzip may follow each other."""
    found = bytearray()
    stream = zlib.decompressobj(window_bits)
    start = 0
    try:
        for start, piece in _pieces(data, careful_from):  # noqa: B007  the fault's place
            while piece:
                if stream.eof:
                    if window_bits != _GZIP or not piece.startswith(b"\x1f"):
                        return bytes(found), True  # padding behind the end
                    stream = zlib.decompressobj(window_bits)
                found += stream.decompress(piece, limit + 1 - len(found))
                if len(found) > limit:
                    return bytes(found), False
                piece = stream.unused_data if stream.eof else stream.unconsumed_tail
    except zlib.error:
        if careful_from < 0:
            # What stands before the fault in the same piece is lost in this error.
            return _inflate(data, limit, window_bits, start)
        raise _CorruptError(bytes(found)) from None
    return bytes(found), stream.eof


_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def _gunzip(data: bytes, limit: int) -> tuple[bytes, bool]:
    return _inflate(data, limit, _GZIP)


def _undeflate(data: bytes, limit: int) -> tuple[bytes, bool]:
    """RFC 9110 means zlib; many servers send the bare stream, which browsers read too."""
    is_zlib = len(data) >= 2 and data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    try:
        return _inflate(data, limit, _ZLIB if is_zlib else _RAW)
    except _CorruptError as error:
        # A bare stream has no check of its own: any data may yield something before it turns out to be none.
        raise _CorruptError(error.data if is_zlib else b"") from None


def _unbrotli(data: bytes, limit: int, careful_from: int = -1) -> tuple[bytes, bool]:
    stream = brotli.Decompressor()
    found = bytearray()
    start = 0
    try:
        for start, piece in _pieces(data, careful_from):  # noqa: B007  the fault's place
            found += stream.process(piece, output_buffer_limit=limit + 1 - len(found))
            while len(found) <= limit and not stream.can_accept_more_data():
                found += stream.process(b"", output_buffer_limit=limit + 1 - len(found))
            if len(found) > limit:
                return bytes(found), False
            if stream.is_finished():
                return bytes(found), True  # padding may follow
    except brotli.error:
        if careful_from < 0:
            return _unbrotli(data, limit, start)
        raise _CorruptError(bytes(found)) from None
    return bytes(found), stream.is_finished()


_DECODERS: dict[str, Callable[[bytes, int], tuple[bytes, bool]]] = {
    "gzip": _gunzip,
    "deflate": _undeflate,
    "br": _unbrotli,
}
