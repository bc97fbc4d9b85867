"""The papers' benchmarks, one module each: how its rows become items, how its outputs are read and scored."""
