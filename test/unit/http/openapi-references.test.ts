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

it('documents what is no JSON as what it is, and its errors as JSON', async () => {
  const { paths } = parse(await readFile(DOCUMENT, 'utf8'));
  const answers = (path: string) => paths[path].get.responses;
  const binary = { type: 'string', format: 'binary' };
  expect(answers('/v1/adapters/{adapter_id}/export')['200'].content).toEqual({
    'application/octet-stream': { schema: binary },
  });
  const upload = answers('/v1/files/{file_id}/content')['200'].content;
  expect(Object.keys(upload)).toEqual(['application/zip', 'application/jsonl', 'text/csv']);
  const job = '/v1/fine_tuning/jobs/{fine_tuning_job_id}';
  expect(answers(`${job}/events`)['200'].content['text/event-stream']).toEqual({ schema: { type: 'string' } });
  expect(answers(`${job}/ledger`)['200'].content['text/csv']).toEqual({ schema: { type: 'string' } });
  for (const path of Object.keys(paths)) {
    for (const { responses } of Object.values<{ responses: object }>(paths[path])) {
      expect(responses).toMatchObject({ '4XX': { $ref: '#/components/responses/Refused' } });
    }
  }
});

it('says that a provider test needs no body, and a job does', async () => {
  const { paths } = parse(await readFile(DOCUMENT, 'utf8'));
  expect(paths['/v1/providers/{provider_id}/test'].post.requestBody.required).toBe(false);
  expect(paths['/v1/fine_tuning/jobs'].post.requestBody.required).toBe(true);
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
