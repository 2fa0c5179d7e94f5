"""Removing what an upload that came to nothing left at storage."""

from services.upload.kinds import UploadKind
from services.upload.ports import Storage
from services.upload.session import Session


async def clear(storage: Storage, session: Session) -> None:
    """Removes parts and objects of an ended session. Safe to repeat; a URL that still lives may bring some back.

    Raises:
        Unavailable: storage did not answer; some of it may be gone.
    """
    if session.upload_id:
        await storage.abort(session.s3_key, session.upload_id)
    if session.kind is UploadKind.FORM:
        await storage.delete(session.incoming_key)
    await storage.delete(session.s3_key)
