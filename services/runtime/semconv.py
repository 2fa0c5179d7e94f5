"""Every attribute name that Millrace's own spans use, in one place.

The first block is OpenTelemetry's semantic conventions (messaging, https://opentelemetry.io/docs/specs/semconv/messaging/);
the second is ours, under the prefix `millrace.`.
"""

from typing import Final

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_MESSAGE_BODY_SIZE: Final = "messaging.message.body.size"
MESSAGING_CONSUMER_GROUP_NAME: Final = "messaging.consumer.group.name"
SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
SERVICE_VERSION: Final = "service.version"
USER_ID: Final = "user.id"
ERROR_TYPE: Final = "error.type"
NATS: Final = "nats"
"""Value of `messaging.system`; not a listed one, and the conventions allow custom values."""

MEDIA_ID: Final = "millrace.media.id"
MEDIA_TYPE: Final = "millrace.media.type"
MEDIA_GENERATION: Final = "millrace.media.generation"
MEDIA_SIZE_BYTES: Final = "millrace.media.size_bytes"
FAILURE_REASON: Final = "millrace.failure.reason"
PART_COUNT: Final = "millrace.upload.part_count"
TASK_ID: Final = "millrace.task.id"
TASK_LABEL: Final = "millrace.task.label"
TASK_LANE: Final = "millrace.task.lane"
TASK_ATTEMPT: Final = "millrace.task.attempt"
TASK_COUNT: Final = "millrace.task.count"
FRAME_COUNT: Final = "millrace.frame_count"
SEGMENT_COUNT: Final = "millrace.segment_count"
OUTPUT_BYTES: Final = "millrace.output_bytes"
WARMED_COUNT: Final = "millrace.edge.warmed_count"
DELIVERY_COUNT: Final = "millrace.delivery_count"
