"""The gateway's pages: files only, and the step that fetches what they take from npm."""
