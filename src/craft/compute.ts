import type * as TensorFlow from '@tensorflow/tfjs-core';
import { ComputeUnavailableError } from './errors.js';
import { Float32Kernels } from './wasm/float32-kernels.js';

/** Where the head can compute: GPUs, then processors, each in order of preference. `simd` is this program's own kernels. */
export const COMPUTE_NAMES = ['tfjs-node-gpu', 'webgpu', 'simd', 'tfjs-node', 'wasm', 'cpu'] as const;
export type ComputeName = (typeof COMPUTE_NAMES)[number];
export type TensorFlowName = Exclude<ComputeName, 'simd'>;

/** A backend of TensorFlow.js that is ready to use. */
export interface TensorFlowCompute {
  readonly name: TensorFlowName;
  readonly tf: typeof TensorFlow;
  /** Makes it the current backend, of which TensorFlow.js has one for everybody in a thread. Call before what it is to do. */
  activate(): void;
}

/** A backend that is ready to use. For `simd` no module of TensorFlow.js is loaded. */
export type Compute = { readonly name: 'simd' } | TensorFlowCompute;

/** What decides which backend is fastest. */
export interface HeadShape {
  classCount: number;
  hiddenWidth: number;
  /** Rows in a step of training. */
  batch: number;
}

interface Backend {
  /** The name under which the package registers itself with TensorFlow.js. */
  registered: string;
  /** @param automatic whether nobody asked for this very backend */
  load(automatic: boolean): Promise<void>;
  remedy: string;
}

// TypeScript and Node must not need the optional packages, so their names are values rather than literals.
const importOptional = (specifier: string): Promise<Record<string, unknown>> => import(specifier);

const BACKENDS: Record<TensorFlowName, Backend> = {
  'tfjs-node-gpu': {
    registered: 'tensorflow',
    load: async () => {
      await importOptional('@tensorflow/tfjs-node-gpu');
    },
    remedy: 'Install @tensorflow/tfjs-node-gpu (the GPU image has it) on a machine with an NVIDIA GPU, CUDA and cuDNN.',
  },
  webgpu: {
    registered: 'webgpu',
    load: loadWebGpu,
    remedy: 'Install webgpu and @tensorflow/tfjs-backend-webgpu on a machine whose GPU has a Vulkan driver.',
  },
  'tfjs-node': {
    registered: 'tensorflow',
    load: async () => {
      await importOptional('@tensorflow/tfjs-node');
    },
    remedy: 'Install @tensorflow/tfjs-node.',
  },
  wasm: {
    registered: 'wasm',
    load: async () => {
      await import('@tensorflow/tfjs-backend-wasm');
    },
    remedy: 'Reinstall the dependencies: @tensorflow/tfjs-backend-wasm and its .wasm files belong to them.',
  },
  cpu: {
    registered: 'cpu',
    load: async () => {
      await import('@tensorflow/tfjs-backend-cpu');
    },
    remedy: 'Reinstall the dependencies: @tensorflow/tfjs-backend-cpu belongs to them.',
  },
};

interface WebGpuModule {
  create(flags: string[]): { requestAdapter(): Promise<{ info?: { isFallbackAdapter?: boolean } } | null> };
  globals: object;
}

/**
 * WebGPU is a browser API. The `webgpu` package (Dawn) has an implementation, which must be in place before the backend
 * loads. A GPU emulated in software is tens of times slower than WebAssembly, so it is used only when asked for.
 */
async function loadWebGpu(automatic: boolean): Promise<void> {
  const { create, globals } = (await importOptional('webgpu')) as unknown as WebGpuModule;
  const gpu = create([]);
  const adapter = await gpu.requestAdapter();
  if (adapter === null) throw new Error('No WebGPU adapter was found.');
  if (automatic && adapter.info?.isFallbackAdapter) throw new Error('The only WebGPU adapter is emulated in software.');
  Object.assign(globalThis, globals);
  const navigator = { ...(Reflect.get(globalThis, 'navigator') as object | undefined), gpu };
  Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true, writable: true });
  await importOptional('@tensorflow/tfjs-backend-webgpu');
}

/** Whether the `tensorflow` backend that registered itself computes on a GPU; both packages share one name. */
function registeredOnGpu(tf: typeof TensorFlow): boolean {
  const backend = tf.findBackend('tensorflow') as { isUsingGpuDevice?: boolean } | null;
  return backend?.isUsingGpuDevice === true;
}

async function start(name: ComputeName, automatic: boolean): Promise<Compute> {
  if (name === 'simd') {
    // Throws where WebAssembly or its SIMD is missing.
    new Float32Kernels();
    return { name };
  }
  const tf = await import('@tensorflow/tfjs-core');
  // Keeps TensorFlow.js from advertising its other backends on the console.
  tf.env().set('PROD', true);
  const { load, registered } = BACKENDS[name];
  await load(automatic);
  if (!(await tf.setBackend(registered))) throw new Error(`TensorFlow.js could not start its ${registered} backend.`);
  await tf.ready();
  if (name === 'tfjs-node-gpu' && !registeredOnGpu(tf)) throw new Error('TensorFlow found no GPU that it can use.');
  // Setting a backend that has started takes effect at once, whatever its promise says.
  const activate = () => {
    if (tf.getBackend() !== registered) void tf.setBackend(registered);
  };
  return { name, tf, activate };
}

/** Whether the backend computes on a GPU, whatever the machine has. */
export function isGpu(name: ComputeName): boolean {
  return name === 'tfjs-node-gpu' || name === 'webgpu';
}

/**
 * Floating-point operations in the five products of a step from which on a GPU is taken to be worth its transfers and
 * launches: there the kernels of `simd` take about 30 ms, while a step through TensorFlow.js has to be reckoned at 10 ms spent
 * outside of products. An estimate: `npm run bench:gpu` says how it fares on the machine at hand.
 */
const GPU_PAYS_FROM = 1e9;

/** Whether `auto` looks for a GPU for a head of this shape. */
export function gpuPays({ batch, classCount, hiddenWidth }: HeadShape): boolean {
  return 10 * batch * classCount * hiddenWidth >= GPU_PAYS_FROM;
}

/** The names worth trying for a head of this shape, best first; without a shape no GPU is. */
function preferences(shape: HeadShape | null): ComputeName[] {
  const pays = shape !== null && gpuPays(shape);
  return COMPUTE_NAMES.filter((name) => pays || !isGpu(name));
}

/**
 * Which of the backends at hand `auto` means for a head of this shape: a GPU only where it pays.
 * @returns undefined when none of them is worth using
 */
export function chooseCompute(available: readonly ComputeName[], shape: HeadShape): ComputeName | undefined {
  return preferences(shape).find((name) => available.includes(name));
}

/**
 * Makes a backend ready.
 * @param choice a backend, or `auto` for the best one this machine has for the shape
 * @throws ComputeUnavailableError if the named backend cannot be had; the message says how to get it
 */
export async function selectCompute(
  choice: ComputeName | 'auto' = 'auto',
  shape: HeadShape | null = null,
): Promise<Compute> {
  if (choice !== 'auto' && !COMPUTE_NAMES.includes(choice)) {
    throw new ComputeUnavailableError(
      `There is no compute backend "${choice}". Choose auto or one of ${COMPUTE_NAMES.join(', ')}.`,
    );
  }
  let failure: unknown;
  for (const name of choice === 'auto' ? preferences(shape) : [choice]) {
    try {
      return await start(name, choice === 'auto');
    } catch (error) {
      failure = error;
    }
  }
  const reason = failure instanceof Error ? failure.message.split('\n')[0] : String(failure);
  throw new ComputeUnavailableError(
    `The compute backend "${choice}" is not available (${reason}). ${remedyFor(choice)}`,
    {
      cause: failure,
    },
  );
}

function remedyFor(choice: ComputeName | 'auto'): string {
  if (choice === 'auto') return BACKENDS.cpu.remedy;
  if (choice === 'simd') return 'Use a Node.js that has WebAssembly with SIMD, not --jitless. Or choose cpu.';
  return `${BACKENDS[choice].remedy} Or choose auto.`;
}
