"""Training speed of the demo recipe on toy jets, views included: jets/s at the thread settings of the environment.

Compare, for example, ``OMP_NUM_THREADS=1``, ``OMP_WAIT_POLICY=PASSIVE`` and ``GOMP_SPINCOUNT=20000``.
"""

from __future__ import annotations

import time

import torch

import pyrino as rino

if __name__ == "__main__":
    trainer = rino.Trainer(rino.Recipe.preset("demo", epochs=2), rino.toy_jets(3000, seed=1))
    trainer.step()  # the first step starts threads and allocates
    begin = time.perf_counter()
    steps = sum(1 for _ in trainer)
    rate = steps * trainer.batch_size / (time.perf_counter() - begin)
    print(f"{rate:.0f} jets/s, {torch.get_num_threads()} threads, {steps} steps of {trainer.batch_size} jets")
