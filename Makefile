# make demo   a first run from nothing: environment, synthetic data, training, both stages with few labels, prediction
# make test   all tests
# make lint   style and types
# make clean  removes the demo's data and runs, and the environment

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
DEMO := work_dir/demo/make

.PHONY: demo test lint clean

$(VENV)/installed: requirements.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --requirement requirements.txt
	$(RUN) -m pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(RUN) -m pip install --quiet --requirement requirements-dev.txt
	touch $@

data/demo_raw: | $(VENV)/installed
	$(RUN) data_gen/synthetic.py --out $@

data/demo.h5: | data/demo_raw
	$(RUN) data_gen/ntu_gen_preprocess.py --data_path data/demo_raw --out $@

demo: $(VENV)/installed data/demo.h5
	$(RUN) main.py recognition -c config/demo/st_gcn.yaml -w $(DEMO)/st_gcn --overwrite
	$(RUN) stage1.py -c config/demo/stage1.yaml -w $(DEMO)/stage1 --overwrite
	$(RUN) stage2.py -c config/demo/stage2.yaml -w $(DEMO)/stage2 --overwrite \
	  --weights $(DEMO)/stage1/best.pt data.label_fraction=0.2
	$(RUN) tools/label_efficiency.py -c config/demo/label_efficiency.yaml -w $(DEMO)/label_efficiency --overwrite \
	  --weights $(DEMO)/stage1/best.pt
	$(RUN) main.py prediction -c config/demo/predict.yaml -w $(DEMO)/predict --overwrite
	@echo "All labels: $(DEMO)/st_gcn/{curves.png,confusion.png,per_class.csv}"
	@echo "Few labels: $(DEMO)/label_efficiency/label_efficiency.{png,md}"
	@echo "Prediction: $(DEMO)/predict/{poses.png,mpjpe.png,mpjpe.csv}"

test: $(VENV)/installed-dev
	$(RUN) -m pytest -n 2 --dist worksteal

lint: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean:
	rm -rf $(VENV) data/demo_raw data/demo.h5 work_dir/demo
