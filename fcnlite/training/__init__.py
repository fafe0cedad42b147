"""Training runs: what to compute, the loop, the folder it leaves, chains of runs, and Caffe's solver files."""
