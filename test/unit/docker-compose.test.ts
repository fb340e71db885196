import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';

/** What docker-compose.yml gives the processes that call providers. */

const file = (name: string) => readFile(new URL(`../../${name}`, import.meta.url), 'utf8');
let services: Record<string, { environment: Record<string, string> }>;

beforeAll(async () => {
  ({ services } = parse(await file('docker-compose.yml'), { merge: true }));
});

describe.each(['api', 'worker', 'worker-gpu'])('the service %s', (name) => {
  it('knows where the reference provider is, and may call nothing else that is not public', () => {
    expect(services[name].environment).toMatchObject({
      CRAFT_PROVIDER_URL: 'http://provider:8081',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: docker compose fills it in.
      CRAFT_ALLOWED_NETWORKS: '${CRAFT_ALLOWED_NETWORKS:-}',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: docker compose fills it in.
      CRAFT_CORS_ORIGINS: '${CRAFT_CORS_ORIGINS:-}',
    });
  });
});

it('an environment that is filled in from the example allows nothing more', async () => {
  expect(await file('.env.example')).toMatch(/^CRAFT_ALLOWED_NETWORKS=$/m);
  expect(await file('.env.example')).toMatch(/^CRAFT_CORS_ORIGINS=$/m);
});
