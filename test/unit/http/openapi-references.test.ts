import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { parse } from 'yaml';

const DOCUMENT = new URL('../../../openapi.yaml', import.meta.url);

function* referencesIn(value: unknown): Generator<string> {
  if (typeof value !== 'object' || value === null) return;
  if ('$ref' in value && typeof value.$ref === 'string') yield value.$ref;
  for (const item of Object.values(value)) yield* referencesIn(item);
}

it('documents a prediction by form with the bounds of one by JSON', async () => {
  const { paths } = parse(await readFile(DOCUMENT, 'utf8'));
  const { content } = paths['/v1/adapters/{adapter_id}/predict'].post.requestBody;
  const { images: _, ...options } = content['application/json'].schema.properties;
  expect(options.top_k).toMatchObject({ minimum: 1, maximum: 65536 });
  expect(content['multipart/form-data'].schema.properties).toMatchObject(options);
});

it('every reference of the OpenAPI document leads somewhere', async () => {
  const document = parse(await readFile(DOCUMENT, 'utf8')) as Record<string, unknown>;
  const references = [...new Set(referencesIn(document))];
  expect(references.length).toBeGreaterThan(10);
  const broken = references.filter((reference) => {
    const steps = reference.replace(/^#\//, '').split('/');
    const found = steps.reduce<unknown>((at, step) => (at as Record<string, unknown> | undefined)?.[step], document);
    return found === undefined;
  });
  expect(broken).toEqual([]);
});
