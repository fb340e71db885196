"""Mean milliseconds of a generation (ask and tell) of pycma on a sphere, on one thread: python3 pycma.py N POPULATION GENERATIONS REPEATS."""
import os

for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[name] = "1"

import json
import sys
import time
import warnings

warnings.simplefilter("ignore")
import cma
import numpy

WARM_UP = 5
dimension, population, generations, repeats = map(int, sys.argv[1:5])


def mean_of_one_run():
    options = {"popsize": population, "bounds": [-5, 5], "seed": 1, "verbose": -9, "maxiter": 10**9}
    search = cma.CMAEvolutionStrategy(numpy.zeros(dimension), 1.0, options)
    spent = 0.0
    for generation in range(WARM_UP + generations):
        start = time.perf_counter()
        points = search.ask()
        asked = time.perf_counter() - start
        losses = [float(numpy.dot(point, point)) for point in points]
        start = time.perf_counter()
        search.tell(points, losses)
        if generation >= WARM_UP:
            spent += asked + time.perf_counter() - start
    return 1000 * spent / generations


print(json.dumps({"version": cma.__version__.split()[0], "means": [mean_of_one_run() for _ in range(repeats)]}))
