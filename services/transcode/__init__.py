"""The transcode service: plans what an original becomes, and encodes it task by task."""
