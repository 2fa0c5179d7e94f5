"""The ways in which the bytes of a file can come to storage. Pure."""

from enum import StrEnum


class UploadKind(StrEnum):
    """How the bytes come.

    MULTIPART: in parts, each with a PUT of its own; they are joined when the client completes the upload.
    PUT: with one PUT of the whole, which storage takes once and never again.
    FORM: with one POST of a form, as upload widgets of browsers send it. It goes to a key of its own, from which it is
        copied once it is there: a form can be sent again for as long as it lives.
    """

    MULTIPART = "multipart"
    PUT = "put"
    FORM = "form"


def choose(size_bytes: int, wished: UploadKind | None, put_max_bytes: int) -> UploadKind:
    """The kind that was wished for, or else the one that takes the fewest calls for a file of this size."""
    if wished is not None:
        return wished
    return UploadKind.PUT if size_bytes <= put_max_bytes else UploadKind.MULTIPART
