"""Parts of `make bench-transcode`: footage, the ways to make a ladder of it, how fast and how good each is."""
