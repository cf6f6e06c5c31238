SHELL := /bin/bash
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

# LeRobot's own Python environment: it wants another PyTorch (docs/data.md); some 8 GB.
LEROBOT ?= .lerobot

.PHONY: lerobot test-lerobot
lerobot: ## Build it from the versions that were tested.
	python3 -m venv $(LEROBOT)
	$(LEROBOT)/bin/pip install lerobot==0.4.4 torch==2.9.1 torchvision==0.24.1

test-lerobot: ## See that it reads what is written here, and that what it writes is read.
	@test -x $(LEROBOT)/bin/python || { echo "no LeRobot in $(LEROBOT); build it with: make lerobot"; exit 1; }
	LEROBOT=$(abspath $(LEROBOT)) pytest -m lerobot

# From nothing to an evaluated bundle on one big GPU, within ten minutes of an H100 with 16 processor cores (docs/performance.md).
GPU_OUT ?= gpu-out
GPU_DEVICE ?= cuda
GPU_WORKERS ?= 16
GPU_EPISODES ?= 800
GPU_MINUTES ?= 5

.PHONY: gpu
gpu: ## Test, collect, fit, evaluate and measure; bundle, JSON and log are left in GPU_OUT.
	mkdir -p $(GPU_OUT)
	( set -e; \
	  pytest -m $(GPU_DEVICE) || test $$? -eq 5; \
	  cosmos-wm collect --episodes $(GPU_EPISODES) --workers $(GPU_WORKERS) --seed 1 --out $(GPU_OUT)/table; \
	  cosmos-wm fit-tokenizer --init default --fit.minutes 1.5 --data $(GPU_OUT)/table --device $(GPU_DEVICE) --out $(GPU_OUT)/perception; \
	  cosmos-wm fit-dynamics --config gpu.yaml --fit.minutes $(GPU_MINUTES) --data $(GPU_OUT)/table \
	    --perception $(GPU_OUT)/perception --device $(GPU_DEVICE) --ship_episodes 40 --out $(GPU_OUT)/bundle \
	    --json $(GPU_OUT)/figures.json; \
	  cosmos-wm benchmark --device $(GPU_DEVICE) --out $(GPU_OUT)/benchmark --json $(GPU_OUT)/benchmark.json; \
	) 2>&1 | tee $(GPU_OUT)/gpu.log; test $${PIPESTATUS[0]} -eq 0
