// Compiles src/*/wasm/*.as.ts (AssemblyScript), with what they import from folders there, to WebAssembly and writes each as a
// module of TypeScript that holds its bytes, so that kernels travel with the program wherever it runs from. What is up to date
// is left alone.
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const directories = ['craft', 'reference-provider'].map((room) =>
  fileURLToPath(new URL(`../src/${room}/wasm/`, import.meta.url)),
);
const script = fileURLToPath(import.meta.url);

async function isFresh(target, sources) {
  try {
    const { mtimeMs } = await stat(target);
    const times = await Promise.all(sources.map(async (source) => (await stat(source)).mtimeMs));
    return times.every((time) => time <= mtimeMs);
  } catch {
    return false;
  }
}

async function compile(directory, name, sources) {
  const generated = `${directory}generated/`;
  const target = `${generated}${name}.ts`;
  const source = `${directory}${name}.as.ts`;
  if (await isFresh(target, [...sources, script])) return;
  const asc = await import('assemblyscript/asc');
  const outputs = new Map();
  const { error, stderr } = await asc.main(
    [
      source,
      ...['--outFile', 'kernels.wasm'],
      ...['-O3', '--noAssert', '--enable', 'simd', '--runtime', 'stub', '--use', 'abort='],
      ...['--memoryBase', '64', '--initialMemory', '1'],
    ],
    {
      readFile: (file, base) => readFile(file.startsWith('/') ? file : `${base}/${file}`, 'utf8').catch(() => null),
      writeFile: (file, contents) => {
        outputs.set(file, contents);
      },
      listFiles: () => [],
    },
  );
  if (error) throw new Error(`${name}.as.ts does not compile.\n${stderr.toString()}`);
  const base64 = Buffer.from(outputs.get('kernels.wasm')).toString('base64');
  await mkdir(generated, { recursive: true });
  await writeFile(
    target,
    `// Made of ${name}.as.ts by scripts/generate-kernels.mjs.\nexport const bytes =\n  '${base64}';\n`,
  );
}

for (const directory of directories) {
  const files = (await readdir(directory, { recursive: true })).filter((file) => file.endsWith('.as.ts'));
  const sources = files.map((file) => `${directory}${file}`);
  for (const file of files) {
    if (!/[\\/]/.test(file)) await compile(directory, file.slice(0, -'.as.ts'.length), sources);
  }
}
