"""Files that outlive a process: bundles and their weights, checkpoints, and how each is written whole or not at all."""
