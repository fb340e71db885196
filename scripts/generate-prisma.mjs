// Makes the Prisma client from prisma/schema.prisma, offline: the CLI insists on a schema-engine binary that generating
// never runs, so it is pointed at this Node. Does nothing when the client is newer than the schema.
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { createRequire } from 'node:module';

const modifiedAt = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
if (modifiedAt('src/db/generated/client.ts') <= modifiedAt('prisma/schema.prisma')) {
  const cli = createRequire(import.meta.url).resolve('prisma/build/index.js');
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'generate', '--no-hints'], {
    encoding: 'utf8',
    env: {
      ...process.env,
      PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
      PRISMA_HIDE_UPDATE_MESSAGE: '1',
      CHECKPOINT_DISABLE: '1',
    },
  });
  if (status !== 0) {
    process.stderr.write(`${stdout}\n${stderr}\n`);
    process.exit(status ?? 1);
  }
}
