"""Slow, literal methods that ours is timed against, frozen: whole forwards, fresh factorisations. Never sped up."""
