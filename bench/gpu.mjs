// Compares every backend that this machine has on the refinement head: times of a training step, agreement with the kernels
// of `simd`, and what compute.ts would choose at each size. Needs a checkout with node_modules, for WebGPU the packages
// `webgpu` and `@tensorflow/tfjs-backend-webgpu` and a Vulkan driver, for tfjs-node-gpu that package and CUDA.
//   npm run bench:gpu [-- --classes 22,100,1000] [--batches 256,1024,8192] [--hidden 256] [--seconds 1] [--json FILE]
// Each backend runs in a process of its own, so that one that breaks down is a finding like any other.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { COMPUTE_NAMES, chooseCompute, isGpu, selectCompute } from '../dist/craft/compute.js';
import { headResults, trainingStep } from './head-cases.mjs';
import { figure, median, report } from './report.mjs';

const { values } = parseArgs({
  options: {
    classes: { type: 'string', default: '22,100,1000' },
    batches: { type: 'string', default: '256,1024,8192' },
    hidden: { type: 'string', default: '256' },
    seconds: { type: 'string', default: '1' },
    json: { type: 'string' },
    backend: { type: 'string' },
  },
});
const list = (text) => text.split(',').map(Number);
const shapes = list(values.classes).flatMap((classCount) => {
  return list(values.batches).map((batch) => ({ classCount, hiddenWidth: Number(values.hidden), batch }));
});
/** Relative, of the largest number of an array. */
const TOLERANCE = 1e-4;
/** Sizes at which a step would take longer than this are left out, judging by the sizes before. */
const LONGEST_STEP_MS = 2000;
const MOST_MINUTES = 10;

const operations = ({ classCount, hiddenWidth, batch }) => 10 * classCount * hiddenWidth * batch;

function distance(actual, expected) {
  let worst = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i] - expected[i]);
    worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(worst, difference);
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return worst === 0 ? 0 : worst / scale;
}

async function timeOf(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function stepTime(compute, shape) {
  const step = trainingStep(compute, shape);
  // The first step compiles what the later ones use.
  for (let i = 0; i < 2; i++) await step.run();
  const times = [];
  const until = performance.now() + Number(values.seconds) * 1000;
  while (times.length < 3 || performance.now() < until) times.push(await timeOf(step.run));
  step.dispose();
  return median(times);
}

/** The largest difference of what two backends make of the same batch. */
async function disagreement(compute, other, shape) {
  const own = await headResults(compute, shape);
  const expected = await headResults(other, shape);
  return Math.max(...Object.keys(expected).map((part) => distance(own[part], expected[part])));
}

/** What WebGPU says its adapter is. */
async function webGpuAdapter() {
  const adapter = await globalThis.navigator?.gpu?.requestAdapter();
  if (!adapter) return '';
  const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info ?? {};
  const words = [vendor, architecture, device, description].filter(Boolean).join(' ');
  return isFallbackAdapter ? `${words} (emulated in software: no GPU)` : words;
}

async function measureBackend(name) {
  const compute = await selectCompute(name).catch((error) => error);
  if (compute instanceof Error) {
    process.send({ unavailable: compute.message });
    return;
  }
  const simd = await selectCompute('simd');
  process.send({ adapter: name === 'webgpu' ? await webGpuAdapter() : '' });
  let millisecondsPerOperation = 0;
  for (const shape of [...shapes].sort((a, b) => operations(a) - operations(b))) {
    const expected = millisecondsPerOperation * operations(shape);
    if (expected > LONGEST_STEP_MS) {
      process.send({ shape, leftOut: `about ${figure(expected / 1000)} s a step` });
      continue;
    }
    const milliseconds = await stepTime(compute, shape);
    millisecondsPerOperation = milliseconds / operations(shape);
    process.send({ shape, milliseconds, apart: await disagreement(compute, simd, shape) });
  }
}

/** What a backend's process says, and how it ended. */
function runBackend(name) {
  const child = fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), '--backend', name], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    timeout: MOST_MINUTES * 60_000,
  });
  const messages = [];
  let complaints = '';
  child.on('message', (message) => messages.push(message));
  child.stderr.on('data', (data) => {
    complaints += data;
  });
  return new Promise((resolve) => {
    child.on('close', (code, signal) => {
      const last = complaints.trim().split('\n').at(-1);
      resolve({ name, messages, failure: code === 0 ? '' : `ended with ${signal ?? `code ${code}`}: ${last}` });
    });
  });
}

async function compareBackends() {
  const runs = [];
  console.log('Backends of this machine:');
  for (const name of COMPUTE_NAMES) {
    const run = await runBackend(name);
    const unavailable = run.messages.find((message) => message.unavailable)?.unavailable;
    const adapter = run.messages.find((message) => message.adapter)?.adapter;
    const finding = unavailable ? `no. ${unavailable}` : `yes${adapter ? `, ${adapter}` : ''}`;
    console.log(`  ${name}: ${finding}${run.failure ? ` It ${run.failure}` : ''}`);
    const emulated = adapter?.includes('no GPU') === true;
    runs.push({ ...run, usable: !unavailable && !run.failure && !emulated, emulated });
  }
  const available = runs.filter((run) => run.usable).map((run) => run.name);
  if (!available.some(isGpu)) console.log('No GPU was found that a backend can use: what follows is of processors.');

  const rows = [];
  const verdicts = [];
  let disagreements = 0;
  for (const shape of shapes) {
    const { classCount, batch } = shape;
    const of = ({ messages }) => messages.find((m) => m.shape?.classCount === classCount && m.shape.batch === batch);
    const measured = runs.map((run) => ({ ...run, ...of(run) })).filter((run) => run.milliseconds !== undefined);
    const simd = measured.find((run) => run.name === 'simd');
    for (const { name, milliseconds, apart, emulated } of measured) {
      if (!(apart <= TOLERANCE)) disagreements++;
      rows.push({
        name: `C = ${classCount}, B = ${batch}: ${name}${emulated ? ' (emulated)' : ''}, apart ${apart.toExponential(0)}`,
        value: milliseconds,
        unit: 'ms',
        ...(simd && name !== 'simd' && { reference: 'simd', referenceValue: simd.milliseconds }),
      });
    }
    for (const run of runs) {
      if (of(run)?.leftOut) console.log(`  C = ${classCount}, B = ${batch}: ${run.name} left out, ${of(run).leftOut}`);
    }
    const candidates = measured.filter((run) => run.usable).sort((a, b) => a.milliseconds - b.milliseconds);
    const chosen = chooseCompute(available, shape);
    const chosenRun = candidates.find((run) => run.name === chosen);
    const price = chosenRun && `${figure(chosenRun.milliseconds / candidates[0].milliseconds)} × the time of`;
    const fastest = candidates[0]?.name === chosen ? 'the fastest' : `${price} the fastest, ${candidates[0]?.name}`;
    verdicts.push(`  C = ${classCount}, B = ${batch}: ${chosen}, ${fastest}`);
  }
  report(`A training step of the refinement head, hidden ${values.hidden}`, rows, values.json);
  console.log('\nWhat compute.ts chooses among these:');
  console.log(verdicts.join('\n'));
  console.log(
    disagreements === 0
      ? `\nAll agree with simd within ${TOLERANCE} relative.`
      : `\n${disagreements} figures differ from simd by more than ${TOLERANCE} relative.`,
  );
  process.exitCode = disagreements === 0 ? 0 : 1;
}

if (values.backend) {
  await measureBackend(values.backend);
  // Some backends keep a process alive.
  process.disconnect();
  process.exit(0);
} else {
  await compareBackends();
}
