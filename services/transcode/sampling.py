"""Encodes a few moments of a video before it is planned, to learn how many bits its steps need."""

from collections.abc import Mapping, Sequence

from services.transcode import spans
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Artifact, ChunkOutcome
from services.transcode.engine_port import ByteSource, Engine
from services.transcode.specs import ChunkSpec


async def needs_bps(
    engine: Engine, samples: Sequence[ChunkSpec], source: ByteSource, limits: Limits
) -> Mapping[str, int]:
    """What the neediest of the moments takes, by the label of its renditions.

    Raises:
        As `Engine.execute`.
    """
    needs: dict[str, int] = {}
    for sample in samples:
        outcome = await engine.execute(sample, source, limits, sink=_discard, on_stage=spans.stage_recorder())
        if not isinstance(outcome, ChunkOutcome):
            msg = f"a chunk came back as {type(outcome).__name__}"
            raise TypeError(msg)
        for piece in outcome.pieces:
            needs[piece.label] = max(needs.get(piece.label, 0), piece.track.average_bps)
    return needs


async def _discard(artifact: Artifact) -> None:
    """What was encoded to learn something is not kept."""
