import { describe, expect, it } from 'vitest';
import { jobListQuery } from '../../../src/http/schemas/job-list-query.js';

describe('jobListQuery', () => {
  it.each([
    [{}, { limit: 20 }],
    [
      { 'metadata[a]': '1', 'metadata[b c]': 'x', limit: '3' },
      { limit: 3, metadata: { a: '1', 'b c': 'x' } },
    ],
    [{ 'metadata[a[0]]': '1' }, { limit: 20, metadata: { 'a[0]': '1' } }],
    [{ 'metadata[]': '1' }, { limit: 20, metadata: { '': '1' } }],
    [{ metadata: 'null' }, { limit: 20, metadata: null }],
    [{ metadata: '' }, { limit: 20, metadata: null }],
    [{ 'other[a]': '1' }, { limit: 20 }],
  ])('reads %j', (query, expected) => {
    expect(jobListQuery.parse(query)).toEqual(expected);
  });

  it('takes no prototype', () => {
    const { metadata } = jobListQuery.parse({ 'metadata[__proto__]': '1' });
    expect(Object.getPrototypeOf(metadata)).toBe(Object.prototype);
  });

  it.each([
    [{ metadata: 'a' }, ['metadata']],
    [{ 'metadata[a]': ['1', '2'] }, ['metadata', 'a']],
    [{ 'metadata[a]': 'x'.repeat(513) }, ['metadata', 'a']],
    [{ limit: '0' }, ['limit']],
  ])('refuses %j, naming the parameter', (query, path) => {
    expect(jobListQuery.safeParse(query).error?.issues[0].path).toEqual(path);
  });
});
