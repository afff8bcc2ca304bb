"""Runs that survive: heartbeats, stopping, spikes, bad steps, rolling back."""
