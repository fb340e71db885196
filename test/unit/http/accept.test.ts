import Fastify from 'fastify';
import { afterAll, expect, it } from 'vitest';
import { preferredType } from '../../../src/http/accept.js';

const app = Fastify();
app.get('/', async (request, reply) => preferredType(request, reply, ['application/json', 'text/csv']));
app.get('/varied', async (request, reply) => preferredType(request, reply.header('vary', 'Origin'), ['text/csv']));
afterAll(() => app.close());

it.each([
  [undefined, 'application/json'],
  ['*/*', 'application/json'],
  ['application/xml', 'application/json'],
  ['text/csv', 'text/csv'],
  ['Text/CSV', 'text/csv'],
  ['text/csv, */*', 'text/csv'],
  ['text/csv, application/json', 'text/csv'],
  ['application/json, text/csv', 'application/json'],
  ['application/json, text/csv;q=0.1', 'application/json'],
  ['application/json;q=0.1, text/csv', 'text/csv'],
  ['text/csv;q=0, application/json', 'application/json'],
  ['text/csv-schema', 'application/json'],
])('Accept: %s gets %s', async (accept, expected) => {
  const answer = await app.inject({ url: '/', headers: accept === undefined ? {} : { accept } });
  expect(answer.body).toBe(expected);
  expect(answer.headers.vary).toBe('Accept');
});

it('caches learn that the answer depends on Accept, too', async () => {
  expect((await app.inject('/varied')).headers.vary).toBe('Origin, Accept');
});
