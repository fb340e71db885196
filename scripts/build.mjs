// Makes dist, and what is generated on the way, where anything has changed since it was made. Knowing that nothing has takes
// a fraction of what the compiler takes to find it out.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
process.chdir(root);
const STAMP = 'dist/.made-of';
const GENERATORS = ['generate-prisma.mjs', 'generate-kernels.mjs', 'link-postgres.mjs'];

/** Everything that dist is made of: sources, generators, settings, and the installed packages. */
function sources() {
  const inFolder = (folder) =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
  const single = ['prisma/schema.prisma', 'prisma.config.ts', 'tsconfig.json', 'node_modules/.package-lock.json'];
  return [...inFolder('src'), ...inFolder('scripts'), ...single].sort();
}

function fingerprint() {
  const hash = createHash('sha256').update(process.version);
  for (const path of sources()) {
    const stats = statSync(path, { throwIfNoEntry: false });
    hash.update(`${path}\0${stats?.size}\0${stats?.mtimeMs}\n`);
  }
  return hash.digest('hex');
}

function isFresh() {
  try {
    return readFileSync(STAMP, 'utf8') === fingerprint();
  } catch {
    return false;
  }
}

function run(...args) {
  const { status } = spawnSync(process.execPath, args, { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

if (!isFresh()) {
  for (const generator of GENERATORS) run(join('scripts', generator));
  // What it was made of, from before: a file that changes meanwhile is compiled again next time.
  const made = fingerprint();
  run(join('node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json');
  mkdirSync('dist', { recursive: true });
  writeFileSync(STAMP, made);
}
