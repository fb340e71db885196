// What a generation of CMA-ES costs, network and images left out. Run `npm run build` first, then `node bench/cma.mjs`.
import { CmaEs } from '../dist/craft/cma-es.js';

const CASES = [
  { dimension: 40, populationSize: 40, generations: 300 },
  { dimension: 128, populationSize: 40, generations: 200 },
  { dimension: 512, populationSize: 40, generations: 60 },
  { dimension: 2000, populationSize: 40, generations: 24 },
];
const WARM_UP = 5;

function sphere(points, start, dimension) {
  let sum = 0;
  for (let i = start; i < start + dimension; i++) sum += points[i] * points[i];
  return sum;
}

function timesOf({ dimension, populationSize, generations }) {
  const search = new CmaEs({ dimension, populationSize, initialStepSize: 1, bound: 5, seed: 1 });
  const times = [];
  for (let generation = 0; generation < generations + WARM_UP; generation++) {
    const asked = performance.now();
    const candidates = search.ask();
    const answered = performance.now();
    const losses = Float64Array.from({ length: populationSize }, (_, p) => {
      return sphere(candidates, p * dimension, dimension);
    });
    const told = performance.now();
    search.tell(losses);
    if (generation >= WARM_UP) times.push(answered - asked + (performance.now() - told));
  }
  return times;
}

const rows = CASES.map((options) => {
  const times = timesOf(options);
  const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
  const format = (time) => Number(time.toFixed(2));
  return {
    n: options.dimension,
    'population size': options.populationSize,
    generations: options.generations,
    'mean ms': format(mean),
    'min ms': format(Math.min(...times)),
    'max ms': format(Math.max(...times)),
  };
});
console.log('CMA-ES: ask and tell of one generation (the factor is refreshed every few generations: see the maximum)');
console.table(rows);
