"""Sample media: generated scenes and a photograph-like image, and freely licensed footage on request.

Nothing here is committed as media: `python -m deploy.samples` makes or fetches it.
"""
