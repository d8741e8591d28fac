"""The monitor: what it decides, how it watches, who brings it back."""
