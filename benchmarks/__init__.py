"""One file per number that the project claims; `python -m benchmarks NAME` prints one JSON object per figure."""
