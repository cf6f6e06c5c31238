"""LeRobotDataset v3: recordings of robots and simulators as parquet tables and mp4 videos, read and written."""
