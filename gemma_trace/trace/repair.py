"""JSON that isn't quite: what profilers write into strings and numbers, mended and counted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'  # possessive: what is no string is given up at once
_CUT_STRING: Final = rb'".*'  # a string without its end is all that is left
_PIECE: Final = rb"(?:[^\s\"{}\[\],:()]++|\([^()\"{}]*+\)|[()])++"  # of a bare value, a call's parentheses included
_APOSTROPHES: Final = rb"'[^'\"{}\[\]\\\n]*+'(?=\s*+[,}\]])"
_BARE: Final = _APOSTROPHES + rb"|" + _PIECE + rb"(?:(?:[ \t]++|:++)" + _PIECE + rb")*+"
_SUSPECTS: Final = re.compile(
    rb"(?P<string>" + _STRING + rb"|" + _CUT_STRING + rb")"
    rb"|(?P<empty>:\s*+)(?=[,}\]])"
    rb"|(?P<comma>,)(?=\s*+[,}\]])"
    rb"|(?P<bare>" + _BARE + rb")",
    re.DOTALL,
)
_JSON: Final = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null")
_DECIMAL: Final = re.compile(rb"([+-]?)([0-9]*+)(?:\.([0-9]*+))?([eE][+-]?[0-9]++)?")
_HEXADECIMAL: Final = re.compile(rb"0x[0-9a-f]{1,16}", re.IGNORECASE)
_NO_VALUE: Final = re.compile(rb"<?(?:undefined|none|null|nil|not available|missing|unset)>?", re.IGNORECASE)
_NO_NUMBER: Final = re.compile(rb"[+-]?(?:nan(?:\([^()]*\))?|inf(?:inity)?|1\.#\w+|#?n/?a)", re.IGNORECASE)
_STRUCTURE: Final = re.compile(rb"|".join((_STRING, _CUT_STRING, rb"[\[\]{}]")), re.DOTALL)
_CONTROL: Final = rb"[\x00-\x1f]"
_ESCAPE: Final = (
    rb'\\(?:(?P<good>["\\/bfnrt]|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})'
    rb"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|(?P<plain>u[0-9a-fA-F]{4})|)"
)

CONTROL_CHARACTERS: Final = "control_characters"
BROKEN_ESCAPES: Final = "broken_escapes"
BAD_UTF8: Final = "bad_utf8"
NOT_A_NUMBER: Final = "not_a_number"
BARE_VALUES: Final = "bare_values"
STRAY_BRACES: Final = "stray_braces"
STRAY_COMMAS: Final = "stray_commas"


def repair_json(text: bytes, repairs: Counter[str]) -> bytes:
    """Mend what JSON forbids and traces contain; each mend is counted in `repairs`.

    Control characters inside strings become escapes, a backslash that escapes nothing becomes a backslash, bytes
    that are no UTF-8 become U+FFFD. Of what stands outside strings, `NaN`, `inf`, `N/A`, `undefined` and their kin
    become `null`, and so does a value that isn't there (`"x": ,`); `True`, `False` and numbers in another notation
    (`0x1f`, `+5`, `.5`, `007`) become what they say, other words the text that they are; commas that separate nothing
    go.
    """
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        mended = text.decode("utf-8", errors="replace")
        repairs[BAD_UTF8] += mended.count("\ufffd") - text.count("\ufffd".encode())
        text = mended.encode("utf-8")

    def mend(match: re.Match[bytes]) -> bytes:
        token = match.group()
        if match["string"] is None:
            return _mended(token, repairs)
        if len(token) < 2 or not token.endswith(b'"'):
            return token
        if b"\\" in token:
            token = re.sub(_ESCAPE, mend_escape, token)
        token, count = re.subn(_CONTROL, lambda found: b"\\u%04x" % found.group()[0], token)
        repairs[CONTROL_CHARACTERS] += count
        return token

    def mend_escape(match: re.Match[bytes]) -> bytes:
        if match["good"] or match["plain"]:
            return match.group()
        if match["half"]:  # one half of a surrogate pair is no character
            repairs[BAD_UTF8] += 1
            return b"\\ufffd"
        repairs[BROKEN_ESCAPES] += 1
        return b"\\\\"

    return _SUSPECTS.sub(mend, text)


def _mended(token: bytes, repairs: Counter[str]) -> bytes:
    """What stands outside strings and is no structure, as JSON."""
    if _JSON.fullmatch(token):
        return token
    if token == b",":
        repairs[STRAY_COMMAS] += 1
        return b""
    if _NO_NUMBER.fullmatch(token):
        repairs[NOT_A_NUMBER] += 1
        return b"null"
    repairs[BARE_VALUES] += 1
    if token.startswith(b":"):
        return token + b"null"
    if _NO_VALUE.fullmatch(token):
        return b"null"
    if token.lower() in (b"true", b"false"):
        return token.lower()
    if _HEXADECIMAL.fullmatch(token):
        return b"%d" % int(token, 16)
    decimal = _DECIMAL.fullmatch(token)
    if decimal and (decimal[2] or decimal[3]):
        sign, whole, fraction, exponent = (part or b"" for part in decimal.groups())
        whole = sign.strip(b"+") + (whole.lstrip(b"0") or b"0")
        return whole + (b"." + fraction if fraction else b"") + exponent
    return json.dumps(token.decode("utf-8", "replace").strip("'")).encode()


def split_objects(text: bytes, repairs: Counter[str] | None = None) -> Iterator[tuple[int, int]]:
    """Where the objects of a JSON array's inside start and end, by counting brackets outside strings.

    Args:
        repairs: counts the closing braces that close nothing and are passed over.

    Yields:
        (start, end) of each whole object in order; at the array's closing bracket (its position, -1), and no more.
    """
    depth, start = 0, 0
    for token in _STRUCTURE.finditer(text):
        bracket = token.group()
        if bracket in (b"{", b"["):
            if depth == 0:
                start = token.start()
            depth += 1
        elif bracket in (b"}", b"]"):
            if depth == 0:
                if bracket == b"]":
                    yield token.start(), -1
                    return
                if repairs is not None:
                    repairs[STRAY_BRACES] += 1
                continue
            depth -= 1
            if depth == 0:
                yield start, token.end()


def find_array(text: bytes, key: bytes) -> tuple[int, int] | None:
    """Where the top-level object's member `key` starts, and where the inside of its array does.

    Returns:
        (position of the key's opening quote, position after the array's opening bracket); None if it isn't there.
    """
    depth = 0
    wanted: int | None = None
    for token in _STRUCTURE.finditer(text):
        bracket = token.group()
        if bracket.startswith(b'"'):
            if depth == 1:
                wanted = token.start() if bracket == b'"' + key + b'"' else None
        elif bracket in (b"{", b"["):
            if depth == 1 and wanted is not None and bracket == b"[":
                return wanted, token.end()
            depth += 1
        else:
            depth -= 1
    return None
