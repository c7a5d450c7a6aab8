"""Installs LongSkel's packages; `pip install -e .` keeps the commands at the top level usable in place."""

from setuptools import find_packages, setup

setup(
    name="longskel",
    version="0.1.0",
    description="Recognise human actions in skeleton sequences, and predict the next poses",
    author="LongSkel contributors",
    license="MIT",
    python_requires=">=3.10",
    # Not `benchmarks`: they measure a clone of the repository.
    packages=find_packages(include=["torchlight*", "net*", "feeder*", "processor*", "data_gen*", "tools*"]),
    py_modules=["main"],
    install_requires=[
        "torch>=2.7",
        "numpy>=1.26",
        "pandas>=2.1",
        "h5py>=3.10",
        "pyyaml>=6.0",
        "omegaconf>=2.4",
        "tqdm>=4.66",
        "filelock>=4.1",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "matplotlib>=3.8",
        "tensorboard>=2.15",
    ],
    package_data={"processor": ["page.html", "page.js"]},
    extras_require={
        "export": ["onnx>=1.16", "onnxscript>=0.5", "onnxruntime>=1.18"],  # tools/export.py
        "page": ["plotly>=6.0"],  # pages of tools/show.py, infer.py and report.py
    },
)
