import { createHash } from 'node:crypto';
import {
  readSafetensors,
  type SafetensorsFile,
  type SafetensorsTensor,
  writeSafetensors,
} from '../formats/safetensors.js';
import type { AdamState } from './adam.js';
import { CheckpointError } from './errors.js';
import { HEAD_PARAMETERS, type HeadWeights, headShapes, mapHead } from './head-weights.js';
import type { CraftHyperparameters } from './hyperparameters.js';
import { triangleLength } from './kernels.js';
import type { TrainingProblem } from './problem.js';
import type { SearchState } from './prompt-search.js';
import { RANDOM_STATE_LENGTH } from './random.js';
import { TextPromptSpace } from './text-prompt-space.js';

/** Everything that training changes. What follows from the seed, such as the projection, is not part of it. */
export interface TrainingState {
  generation: number;
  search: SearchState;
  head: HeadWeights;
  adam: AdamState;
}

/** What a checkpoint belongs to. */
export interface TrainingIdentity {
  problem: TrainingProblem;
  hyperparameters: CraftHyperparameters;
  seed: number;
}

const MAGIC = 'CRAFTCKP';
const VERSION = 1;
const DIGEST_LENGTH = 32;
/** Magic, version (uint32, little-endian), SHA-256 of the rest; then a safetensors file. */
const PREAMBLE_LENGTH = MAGIC.length + 4 + DIGEST_LENGTH;

type Shapes = Record<string, { dtype: 'F64' | 'F32'; shape: number[] }>;

const SEARCH = 'search.';

/** Those of CMA-ES. What a search over words keeps grows with it: it looks at that itself. */
function searchShapes({ problem, hyperparameters }: TrainingIdentity): Shapes {
  if (problem.prompt.space === 'text') return {};
  const n = hyperparameters.intrinsic_dimension;
  return {
    'search.mean': { dtype: 'F64', shape: [n] },
    'search.covariancePath': { dtype: 'F64', shape: [n] },
    'search.stepSizePath': { dtype: 'F64', shape: [n] },
    'search.covariance': { dtype: 'F64', shape: [triangleLength(n)] },
    'search.factor': { dtype: 'F64', shape: [triangleLength(n)] },
    'search.scalars': { dtype: 'F64', shape: [3 + RANDOM_STATE_LENGTH] },
  };
}

function headTensors({ problem, hyperparameters }: TrainingIdentity): Shapes {
  const shapes: Shapes = {};
  const head = headShapes(problem.classCount, hyperparameters.head_hidden_width);
  for (const group of ['head', 'adam.first', 'adam.second']) {
    for (const parameter of HEAD_PARAMETERS) {
      shapes[`${group}.${parameter}`] = { dtype: 'F32', shape: head[parameter] };
    }
  }
  return shapes;
}

function sha256(...parts: (string | Uint8Array)[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

const bytesOf = (values: Int32Array | Float32Array) =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** Hashes, so that a checkpoint neither repeats the problem nor can be continued with another one. */
function identityMetadata({ problem, hyperparameters, seed }: TrainingIdentity): Record<string, string> {
  const { classCount, prompt, plannedGenerations, labels, validationLabels } = problem;
  const promptSizes = prompt.space === 'soft' ? [prompt.contextTokens, prompt.contextWidth] : [];
  const sizes = [classCount, ...promptSizes, plannedGenerations, labels.length, validationLabels.length];
  const problemHash = sha256(
    JSON.stringify(sizes),
    bytesOf(labels),
    bytesOf(validationLabels),
    prompt.space === 'soft' ? bytesOf(prompt.initialContext) : new TextPromptSpace(prompt).vocabulary,
  );
  // What is not set counts as absent, as it was before it could be.
  const set = Object.entries(hyperparameters).filter(
    ([name, value]) => name !== 'prompt_consistency_weight' || value !== null,
  );
  const sorted = set.sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    problem: problemHash.toString('hex'),
    hyperparameters: sha256(JSON.stringify(sorted)).toString('hex'),
    seed: String(seed),
  };
}

/** @returns bytes for {@link decodeCheckpoint}; 8·n² bytes and a little more, of a search over words far fewer */
export function encodeCheckpoint(state: TrainingState, identity: TrainingIdentity): Uint8Array {
  const values: Record<string, Float64Array | Float32Array> = {};
  for (const parameter of HEAD_PARAMETERS) {
    values[`head.${parameter}`] = state.head[parameter];
    values[`adam.first.${parameter}`] = state.adam.first[parameter];
    values[`adam.second.${parameter}`] = state.adam.second[parameter];
  }
  const tensors: Record<string, SafetensorsTensor> = {};
  for (const [name, data] of Object.entries(state.search)) {
    tensors[SEARCH + name] = { dtype: 'F64', shape: [data.length], data };
  }
  for (const [name, expected] of Object.entries(headTensors(identity))) {
    tensors[name] = { ...expected, data: values[name] };
  }
  const payload = writeSafetensors(tensors, {
    ...identityMetadata(identity),
    generation: String(state.generation),
    adam_step: String(state.adam.step),
  });
  const bytes = new Uint8Array(PREAMBLE_LENGTH + payload.length);
  bytes.set(new TextEncoder().encode(MAGIC));
  new DataView(bytes.buffer).setUint32(MAGIC.length, VERSION, true);
  bytes.set(sha256(payload), MAGIC.length + 4);
  bytes.set(payload, PREAMBLE_LENGTH);
  return bytes;
}

/**
 * @throws CheckpointError if the bytes are damaged, of another version, or belong to another problem, other
 *   hyperparameters or another seed
 */
export function decodeCheckpoint(bytes: Uint8Array, identity: TrainingIdentity): TrainingState {
  const { tensors, metadata } = readPayload(bytes);
  const expectedIdentity = identityMetadata(identity);
  const causes = {
    problem: 'another training problem',
    hyperparameters: 'other hyperparameters',
    seed: 'another seed',
  };
  for (const [field, cause] of Object.entries(causes)) {
    if (metadata[field] !== expectedIdentity[field]) {
      throw new CheckpointError(`The checkpoint was made with ${cause}. Continue it with what it was started with.`);
    }
  }
  for (const [name, { dtype, shape }] of Object.entries({ ...searchShapes(identity), ...headTensors(identity) })) {
    const tensor = tensors.get(name);
    if (!tensor || tensor.dtype !== dtype || tensor.shape.join() !== shape.join()) {
      throw new CheckpointError(`The checkpoint lacks "${name}" as ${dtype} [${shape.join(', ')}].`);
    }
  }
  const search = [...tensors].flatMap(([name, { dtype, data }]) =>
    name.startsWith(SEARCH) && dtype === 'F64' ? [[name.slice(SEARCH.length), data as Float64Array] as const] : [],
  );
  const head = (group: string) => mapHead((parameter) => tensors.get(`${group}.${parameter}`)?.data as Float32Array);
  return {
    generation: count(metadata, 'generation'),
    search: Object.fromEntries(search),
    head: head('head'),
    adam: { first: head('adam.first'), second: head('adam.second'), step: count(metadata, 'adam_step') },
  };
}

function readPayload(bytes: Uint8Array): SafetensorsFile {
  const magic = new TextDecoder('latin1').decode(bytes.subarray(0, MAGIC.length));
  if (magic !== MAGIC || bytes.length < PREAMBLE_LENGTH)
    throw new CheckpointError('This is not a training checkpoint.');
  const version = new DataView(bytes.buffer, bytes.byteOffset).getUint32(MAGIC.length, true);
  if (version !== VERSION) {
    throw new CheckpointError(`The checkpoint has format version ${version}; this program reads version ${VERSION}.`);
  }
  const payload = bytes.subarray(PREAMBLE_LENGTH);
  const digest = bytes.subarray(MAGIC.length + 4, PREAMBLE_LENGTH);
  if (!sha256(payload).equals(digest)) throw new CheckpointError('The checkpoint is damaged: its checksum is wrong.');
  try {
    return readSafetensors(payload);
  } catch (cause) {
    throw new CheckpointError('The checkpoint cannot be read.', { cause });
  }
}

function count(metadata: Record<string, string>, field: string): number {
  const value = Number(metadata[field]);
  if (!Number.isSafeInteger(value) || value < 0) throw new CheckpointError(`The checkpoint's ${field} is not valid.`);
  return value;
}
