"""The transcode service's answers over gRPC; only translation."""

from fractions import Fraction
from typing import Any

import grpc

from media.v1 import transcode_service_pb2
from media.v1.transcode_service_pb2_grpc import TranscodeServiceServicer
from services.runtime.errors import InvalidArgument
from services.transcode.engine.limits import Limits
from services.transcode.plan import DEFAULT_OUTPUT, Fleet, Output
from services.transcode.preview import PlannedRendition, Shape, preview
from services.transcode.slots import Slots

_BITS_PER_KBIT = 1_000


class TranscodeServicer(TranscodeServiceServicer):
    """Questions about plans and workers."""

    def __init__(self, slots: Slots, limits: Limits, fleet: Fleet, output: Output = DEFAULT_OUTPUT) -> None:
        """Answers for what this process plans with: limits, fleet and output are those of its planner."""
        self._slots = slots
        self._limits = limits
        self._fleet = fleet
        self._output = output

    async def PreviewPlan(
        self,
        request: transcode_service_pb2.PreviewPlanRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> transcode_service_pb2.PreviewPlanResponse:
        """Says which renditions a video of this shape would get."""
        planned = preview(_shape_from_pb(request), self._limits, fleet=self._fleet, output=self._output)
        return transcode_service_pb2.PreviewPlanResponse(renditions=[_rendition_to_pb(item) for item in planned])

    async def GetWorkers(
        self,
        request: transcode_service_pb2.GetWorkersRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> transcode_service_pb2.GetWorkersResponse:
        """Says what this process's workers are doing."""
        response = transcode_service_pb2.GetWorkersResponse(worker=self._slots.worker)
        for lane, work in self._slots:
            slot = response.slots.add(lane=lane)
            if work is not None:
                claimed, pulse = work
                slot.task_id = claimed.task.ref.task_id
                slot.label = claimed.task.label
                slot.attempt = claimed.attempt
                slot.fraction = pulse.fraction
        return response


def _shape_from_pb(request: transcode_service_pb2.PreviewPlanRequest) -> Shape:
    try:
        frame_rate = Fraction(request.frame_rate.numerator, request.frame_rate.denominator)
    except ZeroDivisionError as error:
        raise InvalidArgument(
            "frame_rate is no number", reason="OUT_OF_BOUNDS", details={"field": "frame_rate"}
        ) from error
    try:
        duration_s = Fraction(request.duration_secs)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(
            "duration_secs is no number", reason="OUT_OF_BOUNDS", details={"field": "duration_secs"}
        ) from error
    return Shape(request.width_px, request.height_px, frame_rate, duration_s, request.has_audio)


def _rendition_to_pb(item: PlannedRendition) -> transcode_service_pb2.PlannedRendition:
    return transcode_service_pb2.PlannedRendition(
        label=item.label,
        width_px=item.width_px,
        height_px=item.height_px,
        max_bitrate_kbps=item.max_bps // _BITS_PER_KBIT,
        cost_share=item.cost_share,
    )
