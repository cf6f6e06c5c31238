"""The scripts: each holds one command of `cosmos-wm`, and `python train/NAME.py` runs it, too."""
