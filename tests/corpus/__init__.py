"""The hostile set: what packages ship for their own tests, and traps, through the real engine (`make corpus`)."""
