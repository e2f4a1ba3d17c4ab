"""The same models in installable peer libraries, trained the way those libraries train: one epoch on given rows.

The extra ``peers`` installs deepctr-torch and torch-rechub. NextRec and LibMTL pin older packages than ours and take
part where they are found: ``pip install --no-deps nextrec==0.6.14 LibMTL==1.1.5``, then ``pip install polars
transformers`` and the torchvision of your torch.
"""

import contextlib
import importlib
import itertools
import os
import tempfile

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


def nextrec(kind, rows, batch_size, sizes, numerics):
    """NextRec 0.6.14: `fit` on a dictionary of numpy columns, for one epoch, without the metrics of training rows that
    it can be spared. Returns a function that trains one epoch, or None if the library does not have the model."""
    folder = importlib.import_module("nextrec.models.multitask")
    features = importlib.import_module("nextrec.basic.features")
    sparse = [features.SparseFeature(f"c{i}", size, embedding_dim=4) for i, size in enumerate(sizes)]
    columns = [[features.DenseFeature(f"n{i}") for i in range(numerics)], sparse, []]
    expert, tower = {"hidden_dims": [256, 128]}, {"hidden_dims": [64, 32]}
    deep, tasks = {"hidden_dims": [256, 128, 64, 32]}, {"target": ["a", "b"], "task": ["binary"] * 2}
    model = {
        "shared_bottom": ("share_bottom", "ShareBottom", (expert, [tower] * 2)),
        "mmoe": ("mmoe", "MMOE", (expert, 3, [tower] * 2)),
        "cgc": ("ple", "PLE", (expert, [expert] * 2, 1, 1, 1, [tower] * 2)),
        "esmm": ("esmm", "ESMM", (deep, deep)),
        "aitm": ("aitm", "AITM", (expert, [tower] * 2)),
    }
    if kind not in model:
        return None
    module, name, shape = model[kind]
    where = tempfile.mkdtemp(prefix="nextrec")  # it writes a checkpoint per epoch
    built = getattr(importlib.import_module(f"{folder.__name__}.{module}"), name)(
        *columns, *shape, **tasks, session_id=where, device="cpu"
    )
    built.compile("adam", {"lr": 1e-3}, loss=["bce", "bce"])
    codes = rows.categorical(None) - np.asarray(offsets(sizes), np.int32)
    data = {f"c{i}": codes[:, i] for i in range(len(sizes))}
    data |= {f"n{i}": rows.numeric(None)[:, i] for i in range(numerics)}
    data |= dict(zip(tasks["target"], rows.labels.values(), strict=True))

    def epoch():
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            built.fit(data, epochs=1, batch_size=batch_size, use_tensorboard=False, metrics=["accuracy"])

    return epoch


def libmtl(kind, rows, batch_size, sizes, numerics):
    """LibMTL 1.1.5: its architectures and equal weighting in a minimal loop with fused Adam; its own trainer is written
    for a GPU and an older PyTorch. It has no tables: one for all features is put in front."""
    names = {
        "shared_bottom": ("HPS", {}),
        "mmoe": ("MMoE", {"num_experts": [3]}),
        "cgc": ("CGC", {"num_experts": [1] * 3}),
    }
    if kind not in names:
        return None
    name, shape = names[kind]
    width = 4 * len(sizes) + numerics
    architecture = getattr(importlib.import_module("LibMTL.architecture"), name)
    weighting = importlib.import_module("LibMTL.weighting").EW
    model_class = type(name, (architecture, weighting), {"init_param": lambda self: None})
    model = model_class(
        ["a", "b"], lambda: _layers(width, 256, 128),
        torch.nn.ModuleDict({task: torch.nn.Sequential(_layers(128, 64, 32), torch.nn.Linear(32, 1)) for task in "ab"}),
        False, False, torch.device("cpu"), img_size=[width], **shape,
    )  # fmt: skip
    table = torch.nn.Embedding(sum(sizes), 4)
    optimizer = torch.optim.Adam([*table.parameters(), *model.parameters()], lr=1e-3, fused=True)
    codes, numbers = torch.from_numpy(rows.categorical(None)), torch.from_numpy(rows.numeric(None))
    labels = [torch.from_numpy(label)[:, None] for label in rows.labels.values()]

    def epoch():
        for index in torch.randperm(len(codes)).split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            outputs = model(torch.cat([table(codes[index]).flatten(1), numbers[index]], dim=1))
            entropy = torch.nn.functional.binary_cross_entropy_with_logits
            pairs = zip("ab", labels, strict=True)
            model.backward(torch.stack([entropy(outputs[task], label[index]) for task, label in pairs]))
            optimizer.step()

    return epoch


def _layers(*widths):
    pairs = itertools.pairwise(widths)
    return torch.nn.Sequential(*(part for n, m in pairs for part in (torch.nn.Linear(n, m), torch.nn.ReLU())))


def offsets(sizes):
    return [sum(sizes[:i]) for i in range(len(sizes))]


def available():
    """The peers that are installed (extra ``peers``), by name."""
    found = {}
    known = {"deepctr_torch": deepctr_torch, "torch_rechub": torch_rechub, "nextrec": nextrec, "LibMTL": libmtl}
    for name, build in known.items():
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        found[name] = build
    torch.set_num_threads(1)
    return found
