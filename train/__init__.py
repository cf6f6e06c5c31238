"""The scripts: each is a `main(argv)`, a command of `cosmos-wm`, and runnable as `python train/NAME.py`."""
