# These targets are all that you need to use or change the project. Each does its own set-up.
#   make install   creates .venv with edgekd and its dependencies, which are pinned by hash
#   make demo      teacher -> int8 .tflite -> certificate -> report: synthetic images, some minutes
#   make test      runs every test
#   make check     checks lint rules, formatting, types and the architecture
#   make lock      pins the dependencies again in requirements.lock
#   make clean     deletes .venv and builds
.PHONY: install demo test check lock clean

UV_VERSION := 0.13.9
DEMO := builds/demo

# Finds the first Python 3.12 or newer: on PATH, otherwise among the versions that pyenv installed.
find_python = for p in python3.12 python3.13 python3.14 python3 python \
	$$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python3 2>/dev/null); do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 \
	&& { echo "$$p"; break; }; done

install: .venv/installed

.venv/installed: requirements.lock requirements-micro.lock pyproject.toml
	@python=$$($(find_python)); \
	if [ -z "$$python" ]; then \
		echo "edgekd needs Python 3.12 or newer, and none was found." >&2; exit 2; fi; \
	rm -rf .venv; \
	"$$python" -m venv .venv || { \
		echo "the venv module is missing: apt-get install python3-venv" >&2; exit 2; }
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/uv pip install --quiet --compile-bytecode \
		--require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/uv pip install --quiet --no-deps --compile-bytecode \
		--require-hashes -r requirements-micro.lock || echo "tflite-micro is not to be had here:" \
		"tests that run its interpreter are skipped" >&2
	VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/uv pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

demo: install
	.venv/bin/edgekd build examples/demo.toml --profile pi4 --out $(DEMO)

# One worker more than there are cores, since some tests wait for a process; and one torch thread per
# worker: more threads than cores would slow every worker down. A file's tests share one worker.
test: install
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --dist loadfile --no-loadscope-reorder \
		-n $$(.venv/bin/python -c 'import os; print(os.cpu_count() + 1)')

check: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest tests/test_architecture.py

# Pins each dependency for every platform and for Python 3.12 and newer. The file has hashes and no
# addresses.
lock: .venv/installed
	.venv/bin/uv pip compile pyproject.toml --extra dev --extra dicom --extra efficientnet-lite \
		--extra formats --extra heif --extra mlflow --extra postgresql --extra wandb --universal \
		--python-version 3.12 --generate-hashes --no-header --quiet --output-file requirements.lock

clean:
	rm -rf .venv builds
