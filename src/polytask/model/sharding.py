"""Encoders whose parameters, gradients and optimizer state are sharded over processes: FSDP2, layer by layer.

Source: Zhao et al. 2023, "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel"; Rajbhandari et al. 2020,
"ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", stage 3.

A layer's weights are gathered when it runs, forward and backward, and freed afterwards. Gathering is a collective call,
so all processes have to run the same layers in the same order (`training/lockstep.py`). Every process has all heads,
since each step uses different ones, and all vectors: biases, and norms, which stay in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from polytask.model.cpu_kernels import cast_in_every_pass
from polytask.model.device import computes_bf16
from polytask.model.encoder import Backbone
from polytask.model.multitask import MultiTaskModel
from polytask.model.shards import full_tensor
from polytask.terms import HeadSpec, Precision


def shard(model: MultiTaskModel, device: torch.device, precision: Precision, processes: int) -> None:
    """Shard a model's encoders over processes, module by module, and move everything to the device."""
    mesh = init_device_mesh(device.type, (processes,))
    # Under autocast the graph would keep a bfloat16 copy of every weight until the backward pass.
    bf16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    policy = bf16 if computes_bf16(device, precision) else MixedPrecisionPolicy()
    cast_in_every_pass(model)
    whole = {parameter for parameter in model.parameters() if parameter.ndim < 2} | set(model.heads.parameters())
    for encoder in model.trunks:
        words, *layers = encoder.units()
        fully_shard(words, mesh=mesh, reshard_after_forward=True)
        for layer in layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=whole)
    # The rest, such as position embeddings. By default FSDP keeps it gathered after an evaluation.
    fully_shard(model, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
    model.to(device)
    register_fsdp_forward_method(model, "embed")
    model.sharded = True


def gathered(model: MultiTaskModel, heads: Mapping[str, HeadSpec]) -> MultiTaskModel:
    """Return an ordinary model on the CPU with the weights of a sharded one. All processes have to call it together.

    Args:
        heads: head specifications of the model.
    """
    with torch.random.fork_rng(devices=[]):  # the initial weights will be overwritten
        built = MultiTaskModel(Backbone.build(copy.deepcopy(model.config)), model.sharing, heads)
    own = built.state_dict()
    for name, value in model.state_dict().items():
        own[name].copy_(full_tensor(value))
    return built.train(model.training)
