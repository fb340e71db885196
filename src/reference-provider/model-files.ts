import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { readSafetensors } from '../formats/safetensors.js';
import { Tokenizer } from './tokenizer.js';

const configSchema = z.object({
  name: z.string().min(1),
  embed_dim: z.number().int().positive(),
  logit_scale: z.number().positive(),
  image: z.object({
    size: z.number().int().positive(),
    mean: z.array(z.number()).length(3),
    std: z.array(z.number().positive()).length(3),
  }),
  text: z.object({
    width: z.number().int().positive(),
    context_length: z.number().int().positive(),
    default_template: z.string().includes('{}'),
    context_positions: z.array(z.number().int().positive()).min(1),
  }),
});

export type ModelConfig = z.infer<typeof configSchema>;

export interface ModelFiles {
  config: ModelConfig;
  tokenizer: Tokenizer;
  /** [vocabulary, text.width], row-major. */
  tokenEmbedding: Float32Array;
  visionPath: string;
  textPath: string;
}

/** Reads the small files of a model directory. @throws Error naming what does not fit together. */
export async function readModelFiles(directory: string): Promise<ModelFiles> {
  const config = configSchema.parse(JSON.parse(await readFile(join(directory, 'config.json'), 'utf8')));
  const tokenizer = await Tokenizer.load(join(directory, 'tokenizer.json'));
  const tokenEmbedding = await readTokenEmbedding(join(directory, 'token_embedding.safetensors'));
  if (tokenEmbedding.length !== tokenizer.vocabularySize * config.text.width) {
    throw new Error(`token_embedding in ${directory} is not [${tokenizer.vocabularySize}, ${config.text.width}].`);
  }
  if (tokenizer.contextLength !== config.text.context_length) {
    throw new Error(`tokenizer.json and config.json in ${directory} disagree on the context length.`);
  }
  if (config.text.context_positions.some((position, i) => position !== i + 1)) {
    throw new Error('context_positions must follow the start token without a gap.');
  }
  return {
    config,
    tokenizer,
    tokenEmbedding,
    visionPath: join(directory, 'vision.onnx'),
    textPath: join(directory, 'text.onnx'),
  };
}

async function readTokenEmbedding(path: string): Promise<Float32Array> {
  const tensor = readSafetensors(await readFile(path)).tensors.get('token_embedding');
  if (!(tensor?.data instanceof Float32Array)) throw new Error(`${path} lacks the FP32 tensor token_embedding.`);
  return tensor.data;
}
