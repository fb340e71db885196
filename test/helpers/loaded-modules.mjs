// Preloaded into a process (`node --import`): notes every module that it imports in the file LOADED_MODULES.
import { appendFileSync } from 'node:fs';
import { register } from 'node:module';

if (process.env.LOADED_MODULES) register(import.meta.url, { data: process.env.LOADED_MODULES });

let file;
export function initialize(data) {
  file = data;
}

export async function resolve(specifier, context, next) {
  const resolved = await next(specifier, context);
  if (file) appendFileSync(file, `${resolved.url}\n`);
  return resolved;
}
