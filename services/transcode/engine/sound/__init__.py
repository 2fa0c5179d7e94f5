"""Sound on the timeline of its video, brought to one loudness where that is wished."""
