"""Pictures: chunks and their renditions, packets that pass, posters; how frames are shown and encoded."""
