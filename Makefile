# make demo       a first run from nothing: environment, synthetic data, training, few labels, prediction, an answer
# make tour       the rest, on more data: larger networks, streams, the long-term network; half an hour or more
# make test       the tests, but for the slow ones
# make test-slow  the slow ones
# make lint       style and types
# make clean      removes what these made: data, runs, the environment

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
DEMO := work_dir/demo/make
TOUR := work_dir/demo/tour
LARGE := data.path=data/tour.h5 model_args.hidden_channels=16 model_args.hidden_dim=256

.PHONY: demo tour test test-slow lint clean

$(VENV)/installed: requirements.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --requirement requirements.txt
	$(RUN) -m pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(RUN) -m pip install --quiet --requirement requirements-dev.txt
	touch $@

data/demo_raw: | $(VENV)/installed
	$(RUN) data_gen/synthetic.py --out $@ --num_action 8

data/tour_raw: | $(VENV)/installed
	$(RUN) data_gen/synthetic.py --out $@

data/%.h5: | data/%_raw
	$(RUN) data_gen/ntu_gen_preprocess.py --data_path data/$*_raw --out $@

demo: $(VENV)/installed data/demo.h5
	$(RUN) main.py recognition -c config/demo/st_gcn.yaml -w $(DEMO)/st_gcn --overwrite
	$(RUN) stage1.py -c config/demo/stage1.yaml -w $(DEMO)/stage1 --overwrite
	$(RUN) tools/label_efficiency.py -c config/demo/label_efficiency.yaml -w $(DEMO)/label_efficiency --overwrite \
	  --weights $(DEMO)/stage1/best.pt
	$(RUN) main.py prediction -c config/demo/predict.yaml -w $(DEMO)/predict --overwrite
	@echo
	@echo "All labels: $(DEMO)/st_gcn/{curves.png,confusion.png,per_class.csv}"
	@echo "Few labels: $(DEMO)/label_efficiency/label_efficiency.{png,md}"
	@echo "Prediction: $(DEMO)/predict/{poses.png,mpjpe.png,mpjpe.csv}"
	@echo "Answer:     $(DEMO)/answer/{answers.csv,demo_recording.gif} (the person is in no training data):"
	@echo
	$(RUN) data_gen/synthetic.py --out data/demo_recording.skeleton --action 24 --overwrite
	$(RUN) tools/infer.py data/demo_recording.skeleton --weights $(DEMO)/st_gcn/best.pt --top 3 \
	  --out $(DEMO)/answer --overwrite --animate

tour: $(VENV)/installed data/tour.h5
	for stream in joint bone; do $(RUN) main.py recognition -c config/demo/st_gcn.yaml -w $(TOUR)/st_gcn/$$stream \
	  --overwrite $(LARGE) num_epoch=20 stream=$$stream || exit 1; done
	$(RUN) tools/ensemble.py $(TOUR)/st_gcn/joint $(TOUR)/st_gcn/bone --out $(TOUR)/fused --overwrite
	$(RUN) main.py recognition -c config/demo/ctr_gcn.yaml -w $(TOUR)/ctr_gcn --overwrite data.path=data/tour.h5
	$(RUN) main.py recognition -c config/demo/long_term_st_gcn.yaml -w $(TOUR)/train --overwrite $(LARGE) \
	  observe_ratio='[0.2, 0.4, 0.6, 0.8, 1.0]'
	$(RUN) stage1.py -c config/demo/stage1.yaml -w $(TOUR)/stage1 --overwrite $(LARGE) num_epoch=30
	$(RUN) stage2.py -c config/demo/stage2.yaml -w $(TOUR)/stage2 --overwrite $(LARGE) \
	  --weights $(TOUR)/stage1/best.pt data.label_fraction=0.2 spread={}
	$(RUN) tools/label_efficiency.py -c config/demo/label_efficiency.yaml -w $(TOUR)/label_efficiency --overwrite \
	  --weights $(TOUR)/stage1/best.pt --fractions 0.05 0.2 1 settings='[$(shell echo $(LARGE) | tr ' ' ',')]'
	$(RUN) main.py knn_evaluation -c config/demo/knn.yaml -w $(TOUR)/knn --overwrite $(LARGE) --weights $(TOUR)/stage1/best.pt
	$(RUN) tools/embed.py -c config/demo/knn.yaml $(LARGE) --weights $(TOUR)/stage1/best.pt --out $(TOUR)/embed --overwrite
	$(RUN) main.py pretrain -c config/demo/pretrain_long_term.yaml -w $(TOUR)/pretrain_long_term --overwrite $(LARGE)
	$(RUN) main.py prediction -c config/demo/predict.yaml -w $(TOUR)/predict --overwrite $(LARGE) min_epoch_clip=2000
	$(RUN) main.py prediction -c config/demo/predict_contrast.yaml -w $(TOUR)/predict_contrast --overwrite $(LARGE) \
	  min_epoch_clip=2000
	@echo "Look into $(TOUR)"

# A file stays with one worker, so that a run that several of its tests read is made once.
test: $(VENV)/installed-dev
	$(RUN) -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/installed-dev
	$(RUN) -m pytest -n 2 --dist worksteal -m slow

lint: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean:
	rm -rf $(VENV) data/demo_raw data/demo.h5 data/demo_recording.skeleton data/tour_raw data/tour.h5 work_dir/demo
