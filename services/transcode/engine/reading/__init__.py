"""What is read of an original: its format, its extent, its packets and frames in order of time."""
