"""How fast Errata is, as ratios to slow literal references in one run: `make bench`, or `python -m benchmarks`."""
