"""JSON that isn't quite: what profilers write into strings and numbers, mended and counted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.trace.structure import brackets, without_escapes

_BACKSLASH, _QUOTE, _STRING = b"\xff", b"\xfe", b"\xfd"
"""No UTF-8 has these bytes: they stand for two backslashes, for a quote in a string, and for a string."""
_PIECE: Final = rb"(?:[^\s\xfd{}\[\],:()]++|\([^()\xfd{}]*+\)|[()])++"  # of a bare value, a call's parentheses included
_APOSTROPHES: Final = rb"'[^'\xfd{}\[\]\\\n]*+'(?=\s*+[,}\]])"
_BARE: Final = _APOSTROPHES + rb"|" + _PIECE + rb"(?:(?:[ \t]++|:++)" + _PIECE + rb")*+"
_NUMBER: Final = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_SOUND: Final = rb"(?:[\s{}\[\]\xfd:,]++|(?:" + _NUMBER + rb"|true|false|null)(?=\s*+[,}\]]))*+"
"""What surely needs no mending, as much of it as there is: it is passed over in one go."""
_BARE_VALUES: Final = re.compile(rb"(" + _SOUND + rb")(?:(" + _BARE + rb")|\Z)")
_ENDS: Final = rb"(?=\s*+[,}\]])"
_NOT_NUMBERS: Final = {
    word: re.compile(word + _ENDS + rb"(?:(?<=[:,\[]" + word + rb")|(?<=[:,\[]\s" + word + rb"))")
    for word in (b"NaN", b"-NaN", b"nan", b"-nan", b"Infinity", b"-Infinity", b"inf", b"-inf")
}
_STRAY_COMMA, _NO_VALUE_HERE = re.compile(b"," + _ENDS), re.compile(b":" + _ENDS)
_JSON: Final = re.compile(_NUMBER + rb"|true|false|null")
_DECIMAL: Final = re.compile(rb"([+-]?)([0-9]*+)(?:\.([0-9]*+))?([eE][+-]?[0-9]++)?")
_HEXADECIMAL: Final = re.compile(rb"0x[0-9a-f]{1,16}", re.IGNORECASE)
_NO_VALUE: Final = re.compile(rb"<?(?:undefined|none|null|nil|not available|missing|unset)>?", re.IGNORECASE)
_NO_NUMBER: Final = re.compile(rb"[+-]?(?:nan(?:\([^()]*\))?|inf(?:inity)?|1\.#\w+|#?n/?a)", re.IGNORECASE)
_BRACKET: Final = ord("]")
_HEX: Final = rb"[0-9a-fA-F]"
_HIGH: Final = rb"\\u[dD][89abAB]" + _HEX + rb"{2}"
_LOW: Final = rb"\\u[dD][c-fC-F]" + _HEX + rb"{2}"
_HALF: Final = re.compile(_HIGH + rb"(?!" + _LOW + rb")|" + _LOW + rb"(?<!" + _HIGH + _LOW + rb")")
_ESCAPES_NOTHING: Final = re.compile(rb"\\(?![/bfnrt]|u" + _HEX + rb"{4})")
_CONTROLS: Final = bytes(range(32))

CONTROL_CHARACTERS: Final = "control_characters"
BROKEN_ESCAPES: Final = "broken_escapes"
BAD_UTF8: Final = "bad_utf8"
NOT_A_NUMBER: Final = "not_a_number"
BARE_VALUES: Final = "bare_values"
STRAY_BRACES: Final = "stray_braces"
STRAY_COMMAS: Final = "stray_commas"

MENDED_IN_BULK: Final = frozenset({CONTROL_CHARACTERS, BROKEN_ESCAPES, BAD_UTF8, STRAY_COMMAS})
"""What is mended in all of a text at once, so that a mend costs next to nothing."""


def repair_json(text: bytes, repairs: Counter[str]) -> bytes:
    """Mend what JSON forbids and traces contain; each mend is counted in `repairs`.

    Control characters inside strings become escapes, a backslash that escapes nothing becomes a backslash, bytes
    that are no UTF-8 become U+FFFD. Of what stands outside strings, `NaN`, `inf`, `N/A`, `undefined` and their kin
    become `null`, and so does a value that isn't there (`"x": ,`); `True`, `False` and numbers in another notation
    (`0x1f`, `+5`, `.5`, `007`) become what they say, other words the text that they are; commas that separate nothing
    go.
    """
    *_, (parts, mends) = repaired_parts(text)
    repairs += mends
    return joined(parts)


def repaired_parts(text: bytes) -> Iterator[tuple[list[bytes], Counter[str]]]:
    """What `repair_json` makes of a text, and its mends, step by step; the first steps are the quickest.

    Yields:
        The same parts each time, for `joined`. First strings are mended, then also what is no number and what isn't
        there, and last all else.
    """
    mends: Counter[str] = Counter()
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        mended = text.decode("utf-8", errors="replace")
        mends[BAD_UTF8] += mended.count("\ufffd") - text.count("\ufffd".encode())
        text = mended.encode("utf-8")
    parts = text.replace(rb"\\", _BACKSLASH).replace(rb"\"", _QUOTE).split(b'"')
    end = len(parts) - 1 + len(parts) % 2  # a string without its end stays as it is
    parts[1:end:2] = _mended_strings(b'"'.join(parts[1:end:2]), mends).split(b'"') if end > 1 else []
    yield parts, mends
    rest = _STRING.join(parts[:end:2])
    for mend in (_mended_often, _mended_seldom):
        rest = mend(rest, mends)
        parts[:end:2] = rest.split(_STRING)
        yield parts, mends


def joined(parts: list[bytes]) -> bytes:
    """The text that `repaired_parts` took apart."""
    return _restored(b'"'.join(parts))


def _restored(text: bytes) -> bytes:
    return text.replace(_BACKSLASH, rb"\\").replace(_QUOTE, rb"\"")


def _mended_strings(strings: bytes, repairs: Counter[str]) -> bytes:
    """Mend what stands in strings, of many at once.

    Args:
        strings: with a quote between each two.
    """
    strings, halves = _HALF.subn(rb"\\ufffd", strings)  # one half of a surrogate pair is no character
    strings, escapes = _ESCAPES_NOTHING.subn(_BACKSLASH, strings)
    controls = len(strings) - len(strings.translate(None, _CONTROLS))
    repairs += Counter({BAD_UTF8: halves, BROKEN_ESCAPES: escapes, CONTROL_CHARACTERS: controls})
    for code in _CONTROLS if controls else b"":
        strings = strings.replace(b"%c" % code, b"\\u%04x" % code)
    return strings


def _mended_often(rest: bytes, mends: Counter[str]) -> bytes:
    """Mend what is frequent where it is, of what stands outside strings.

    Args:
        rest: with `_STRING` for each string.
    """
    for word, pattern in _NOT_NUMBERS.items():
        if word in rest:
            rest, count = pattern.subn(b"null", rest)
            mends += Counter({NOT_A_NUMBER: count})
    rest, commas = _STRAY_COMMA.subn(b"", rest)
    rest, values = _NO_VALUE_HERE.subn(b":null", rest)
    mends += Counter({STRAY_COMMAS: commas, BARE_VALUES: values})
    return rest


def _mended_seldom(rest: bytes, mends: Counter[str]) -> bytes:
    """Mend bare values, of what stands outside strings.

    Args:
        rest: with `_STRING` for each string.
    """

    def mend(match: re.Match[bytes]) -> bytes:
        sound, bare = match.groups()
        return sound + (_mended(_restored(bare), mends) if bare else b"")

    return _BARE_VALUES.sub(mend, rest)


def _mended(token: bytes, repairs: Counter[str]) -> bytes:
    """What stands outside strings and is no structure, as JSON."""
    if _JSON.fullmatch(token):
        return token
    if _NO_NUMBER.fullmatch(token):
        repairs[NOT_A_NUMBER] += 1
        return b"null"
    repairs[BARE_VALUES] += 1
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


def split_objects(text: bytes) -> Iterator[tuple[int, int]]:
    """Where the objects of a JSON array's inside start and end, by counting brackets outside strings.

    Closing braces that close nothing are passed over.

    Yields:
        (start, end) of each whole object in order; at the array's closing bracket (its position, -1), and no more.
    """
    depth, opened = 0, np.zeros(0, dtype=np.int64)
    characters = np.frombuffer(text, np.uint8)
    for part in brackets(without_escapes(text)):
        # What closes nothing takes the level below all before it; from there on it counts as zero.
        level = part.levels(depth)
        lowest = np.minimum.accumulate(np.minimum(level, 0))
        stray = np.diff(lowest, prepend=0) < 0
        level -= lowest
        closing = part.place[stray & (characters[part.place] == _BRACKET)]
        known = int(np.searchsorted(part.place, closing[0])) if len(closing) else len(level)
        level, opens, place = level[:known], part.opens[:known], part.place[:known]
        opened = np.append(opened, place[opens & (level == 1)])
        ended = place[~opens & (level == 0) & ~stray[:known]] + 1
        yield from zip(opened.tolist(), ended.tolist(), strict=False)
        if len(closing):
            yield int(closing[0]), -1
            return
        opened = opened[len(ended) :]
        depth = int(level[-1]) if len(level) else depth


def find_array(text: bytes, key: bytes) -> tuple[int, int] | None:
    """Where the top-level object's member `key` starts, and where the inside of its array does.

    Returns:
        (position of the key's opening quote, position after the array's opening bracket); None if it isn't there.
    """
    plain = without_escapes(text)
    candidates = re.finditer(rb'"%b"[^"{}\[\]]*+\[' % key, plain)
    ahead, depth = next(candidates, None), 0
    for part in brackets(plain) if ahead else ():
        level, starts = part.levels(depth), {}
        while ahead and ahead.end() <= part.place.max(initial=-1) + 1:
            starts[ahead.end()] = ahead.start()
            ahead = next(candidates, None)
        ends = np.array(list(starts), dtype=np.int64)
        inside = np.intersect1d(part.place[part.opens & (level == 2)] + 1, ends, assume_unique=True)
        if len(inside):
            return starts[int(inside[0])], int(inside[0])
        depth = int(level[-1]) if len(level) else depth
    return None
