"""The manifest service: writes playlists, verifies and warms what viewers get, and publishes it."""
