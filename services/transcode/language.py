"""Language tags of sound tracks: containers speak ISO 639-2, players BCP 47 (which wants the shortest code)."""

import re
from typing import Final

_ALPHA_2: Final = {
    # ISO 639-2 (terminology and bibliographic codes) to ISO 639-1, for languages with many speakers or films.
    "afr": "af", "amh": "am", "ara": "ar", "aze": "az", "bel": "be", "ben": "bn", "bos": "bs", "bul": "bg",
    "cat": "ca", "ces": "cs", "cze": "cs", "cym": "cy", "wel": "cy", "dan": "da", "deu": "de", "ger": "de",
    "ell": "el", "gre": "el", "eng": "en", "est": "et", "eus": "eu", "baq": "eu", "fas": "fa", "per": "fa",
    "fin": "fi", "fra": "fr", "fre": "fr", "gle": "ga", "glg": "gl", "guj": "gu", "hau": "ha", "heb": "he",
    "hin": "hi", "hrv": "hr", "hun": "hu", "hye": "hy", "arm": "hy", "ibo": "ig", "ind": "id", "isl": "is",
    "ice": "is", "ita": "it", "jav": "jv", "jpn": "ja", "kan": "kn", "kat": "ka", "geo": "ka", "kaz": "kk",
    "khm": "km", "kor": "ko", "kur": "ku", "lao": "lo", "lat": "la", "lav": "lv", "lit": "lt", "mal": "ml",
    "mar": "mr", "mkd": "mk", "mac": "mk", "mlt": "mt", "mon": "mn", "msa": "ms", "may": "ms", "mya": "my",
    "bur": "my", "nep": "ne", "nld": "nl", "dut": "nl", "nob": "nb", "nno": "nn", "nor": "no", "pan": "pa",
    "pol": "pl", "por": "pt", "pus": "ps", "ron": "ro", "rum": "ro", "rus": "ru", "sin": "si", "slk": "sk",
    "slo": "sk", "slv": "sl", "som": "so", "spa": "es", "sqi": "sq", "alb": "sq", "srp": "sr", "swa": "sw",
    "swe": "sv", "tam": "ta", "tel": "te", "tgl": "tl", "tha": "th", "tur": "tr", "ukr": "uk", "urd": "ur",
    "uzb": "uz", "vie": "vi", "xho": "xh", "yor": "yo", "zho": "zh", "chi": "zh", "zul": "zu",
}  # fmt: skip

_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_SAYS_NOTHING = frozenset({"und", "mis", "mul", "zxx"})


def bcp47(language: str | None) -> str:
    """The BCP 47 tag for what a container says; empty where it says nothing, or nothing that is a tag."""
    if language is None or not _TAG.fullmatch(language):
        return ""
    primary, dash, rest = language.partition("-")
    primary = primary.lower()
    return "" if primary in _SAYS_NOTHING else _ALPHA_2.get(primary, primary) + dash + rest
