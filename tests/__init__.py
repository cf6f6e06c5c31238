"""Our tests, as a package: ppi-python installs a package of that name, which a folder alone would lose to."""
