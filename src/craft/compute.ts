import * as tf from '@tensorflow/tfjs-core';
import { ComputeUnavailableError } from './errors.js';

/** The TensorFlow.js backends in order of preference. */
export const COMPUTE_NAMES = ['tfjs-node-gpu', 'webgpu', 'tfjs-node', 'wasm', 'cpu'] as const;
export type ComputeName = (typeof COMPUTE_NAMES)[number];

/** A TensorFlow.js backend that is ready to use. */
export interface Compute {
  readonly name: ComputeName;
  readonly tf: typeof tf;
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

const BACKENDS: Record<ComputeName, Backend> = {
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
function registeredOnGpu(): boolean {
  const backend = tf.findBackend('tensorflow') as { isUsingGpuDevice?: boolean } | null;
  return backend?.isUsingGpuDevice === true;
}

async function start(name: ComputeName, automatic: boolean): Promise<void> {
  const { load, registered } = BACKENDS[name];
  await load(automatic);
  if (!(await tf.setBackend(registered))) throw new Error(`TensorFlow.js could not start its ${registered} backend.`);
  await tf.ready();
  if (name === 'tfjs-node-gpu' && !registeredOnGpu()) throw new Error('TensorFlow found no GPU that it can use.');
}

/**
 * Makes a TensorFlow.js backend the current one. The choice holds for the whole process, so make it once.
 * @param choice a backend, or `auto` for the best one this machine has
 * @throws ComputeUnavailableError if the named backend cannot be had; the message says how to get it
 */
export async function selectCompute(choice: ComputeName | 'auto' = 'auto'): Promise<Compute> {
  // Keeps TensorFlow.js from advertising its other backends on the console.
  tf.env().set('PROD', true);
  const names = choice === 'auto' ? COMPUTE_NAMES : [choice];
  let failure: unknown;
  for (const name of names) {
    if (!Object.hasOwn(BACKENDS, name)) {
      throw new ComputeUnavailableError(
        `There is no compute backend "${name}". Choose auto or one of ${COMPUTE_NAMES.join(', ')}.`,
      );
    }
    try {
      await start(name, choice === 'auto');
      return { name, tf };
    } catch (error) {
      failure = error;
    }
  }
  const reason = failure instanceof Error ? failure.message.split('\n')[0] : String(failure);
  const remedy = choice === 'auto' ? BACKENDS.cpu.remedy : `${BACKENDS[choice].remedy} Or choose auto.`;
  throw new ComputeUnavailableError(`The compute backend "${choice}" is not available (${reason}). ${remedy}`, {
    cause: failure,
  });
}
