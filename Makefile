# Isaac Lab's own Python environment, apart from this package's (docs/isaac.md): some 8 GB, ten minutes.
PYTHON ?= python3.12
ISAAC ?= .isaac

.PHONY: isaac test-isaac

isaac: ## Build it from the versions that were tested, and see that they fit together.
	$(PYTHON) -m venv $(ISAAC)
	$(ISAAC)/bin/pip install -c constraints-isaac.txt isaaclab==3.0.0 -e . pytest
	$(ISAAC)/bin/pip check

test-isaac: ## Run what needs it.
	@test -x $(ISAAC)/bin/python || { echo "no Isaac Lab environment in $(ISAAC); build it with: make isaac"; exit 1; }
	$(ISAAC)/bin/python -m pytest -m isaac
