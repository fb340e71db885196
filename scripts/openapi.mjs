// Writes openapi.yaml from the routes' own schemas; with --check only says whether it is up to date.
import { readFileSync, writeFileSync } from 'node:fs';
import { pino } from 'pino';
import { stringify } from 'yaml';
import { packageVersion } from '../dist/api-server.js';
import { buildApp } from '../dist/http/app.js';

const FILE = new URL('../openapi.yaml', import.meta.url);

// Describing the routes calls none of the services.
const app = await buildApp(
  {},
  {
    version: packageVersion(),
    logger: pino({ level: 'silent' }),
    maxUploadBytes: 1,
    maxPredictBytes: 1,
    rateLimitPerMinute: 1,
    corsOrigins: [],
  },
);
await app.ready();
const text = `# Made from src/http by \`npm run openapi\`; do not edit.\n${stringify(app.swagger(), { lineWidth: 120, aliasDuplicateObjects: false })}`;
await app.close();

if (process.argv.includes('--check')) {
  if (readFileSync(FILE, 'utf8') !== text) {
    process.stderr.write('openapi.yaml differs from the routes. Run: npm run openapi\n');
    process.exit(1);
  }
  process.stdout.write('openapi.yaml is up to date.\n');
} else {
  writeFileSync(FILE, text);
}
