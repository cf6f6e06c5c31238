"""Episodes that other programs recorded, each kind of file by a module of its own."""
