"""Measures btfast beside other downloaders on one machine: `python -m bench --help`, and README.md in this folder."""
