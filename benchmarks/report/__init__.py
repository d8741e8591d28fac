"""What the runs came to, as a page and a picture: `python -m benchmarks report` writes docs/benchmarks.md and .svg."""
