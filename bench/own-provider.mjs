// The embedded provider in a process of its own, as `npm start` runs it: what a benchmark itself leaves for the garbage collector
// is not the provider's to clear.
import { fileURLToPath } from 'node:url';
import { startOwnProcess } from './own-process.mjs';

export function startOwnProvider(modelDirectory) {
  return startOwnProcess(fileURLToPath(import.meta.url), modelDirectory);
}

if (process.send && process.argv[1] === fileURLToPath(import.meta.url)) {
  const { startReferenceProvider } = await import('../dist/reference-provider/start.js');
  const provider = await startReferenceProvider({ modelDirectory: process.argv[2] });
  process.once('disconnect', () => provider.close());
  process.send(provider.url);
}
