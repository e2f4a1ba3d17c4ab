"""The same models in installable peer libraries, trained the way those libraries train: one epoch on given rows."""

import importlib

import numpy as np
import torch


def deepctr_torch(kind, rows, batch_size, sizes, numerics):
    """deepctr-torch 0.3.0: `fit` on a dictionary of numpy columns. Returns a function that trains one epoch, or None
    if the library does not have the model."""
    models = importlib.import_module("deepctr_torch.models.multitask")
    inputs = importlib.import_module("deepctr_torch.inputs")
    columns = [inputs.SparseFeat(f"c{i}", size, embedding_dim=4) for i, size in enumerate(sizes)]
    columns += [inputs.DenseFeat(f"n{i}", 1) for i in range(numerics)]
    shape = {"tower_dnn_hidden_units": (64, 32), "l2_reg_embedding": 3e-4, "l2_reg_dnn": 3e-4, "task_names": ("a", "b")}
    model = {
        "shared_bottom": lambda: models.SharedBottom(columns, bottom_dnn_hidden_units=(256, 128), **shape),
        "mmoe": lambda: models.MMOE(
            columns, num_experts=3, expert_dnn_hidden_units=(256, 128), gate_dnn_hidden_units=(), **shape
        ),
        "ple": lambda: models.PLE(columns, expert_dnn_hidden_units=(256,), gate_dnn_hidden_units=(), **shape),
        "esmm": lambda: models.ESMM(columns, **shape | {"tower_dnn_hidden_units": (256, 128, 64, 32)}),
    }
    if kind not in model:
        return None
    model = model[kind]()
    model.compile("adam", loss=["binary_crossentropy", "binary_crossentropy"], metrics=[])
    codes = rows.categorical(None) - np.asarray(offsets(sizes), np.int32)
    data = {f"c{i}": codes[:, i] for i in range(len(sizes))}
    data |= {f"n{i}": rows.numeric(None)[:, i] for i in range(numerics)}
    labels = np.stack(list(rows.labels.values()), axis=1)
    return lambda: model.fit(data, labels, batch_size=batch_size, epochs=1, verbose=0)


def torch_rechub(kind, rows, batch_size, sizes, numerics):
    """torch-rechub 0.9.0: MTLTrainer on its own DataLoader. Returns a function that trains one epoch, or
    None if the library does not have the model. Its ESMM takes no dense features: a little less work."""
    models = importlib.import_module("torch_rechub.models.multi_task")
    features = importlib.import_module("torch_rechub.basic.features")
    trainers = importlib.import_module("torch_rechub.trainers")
    data_tools = importlib.import_module("torch_rechub.utils.data")
    sparse = [features.SparseFeature(f"c{i}", size, embed_dim=4) for i, size in enumerate(sizes)]
    columns = [*sparse, *(features.DenseFeature(f"n{i}") for i in range(numerics))]
    deep = {"dims": [256, 128, 64, 32]}
    kinds, towers = ["classification"] * 2, [{"dims": [64, 32]}] * 2
    expert = {"dims": [256, 128]}
    model = {
        "shared_bottom": lambda: models.SharedBottom(columns, kinds, expert, towers),
        "mmoe": lambda: models.MMOE(columns, kinds, 3, expert, towers),
        "ple": lambda: models.PLE(columns, kinds, 2, 1, 1, {"dims": [256]}, towers),
        "esmm": lambda: models.ESMM(sparse[:14], sparse[14:], deep, deep),
        "aitm": lambda: models.AITM(sparse, 2, expert, towers),
    }
    if kind not in model:
        return None
    model = model[kind]()
    targets = np.stack(list(rows.labels.values()), axis=1)
    if kind == "esmm":  # it predicts conversion, click and both, and learns from the last two
        kinds, targets = ["classification"] * 3, np.concatenate([targets[:, :1], targets], axis=1)
    codes = rows.categorical(None) - np.asarray(offsets(sizes), np.int32)
    data = {f"c{i}": codes[:, i] for i in range(len(sizes))}
    data |= {f"n{i}": rows.numeric(None)[:, i] for i in range(numerics)}
    generator = data_tools.DataGenerator(data, targets)
    loader, *_ = generator.generate_dataloader(split_ratio=[0.998, 0.001], batch_size=batch_size)
    trainer = trainers.MTLTrainer(model, kinds, optimizer_params={"lr": 1e-3}, n_epoch=1, device="cpu")
    return lambda: trainer.train_one_epoch(loader)


def offsets(sizes):
    return [sum(sizes[:i]) for i in range(len(sizes))]


def available():
    """The peers that are installed (extra ``peers``), by name."""
    found = {}
    for name, build in (("deepctr_torch", deepctr_torch), ("torch_rechub", torch_rechub)):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        found[name] = build
    torch.set_num_threads(1)
    return found
