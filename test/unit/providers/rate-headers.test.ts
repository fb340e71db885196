import { describe, expect, it } from 'vitest';
import { exhaustedSeconds, retryAfterSeconds } from '../../../src/providers/rate-headers.js';

const inOneMinute = () => Date.now() + 60_000;

describe('retryAfterSeconds', () => {
  it.each([
    [{ 'retry-after': '12' }, 12],
    [{ 'retry-after': ['3', '4'] }, 3],
    [{ 'retry-after': '0' }, 0],
    [{ 'retry-after-ms': '250', 'retry-after': '9' }, 0.25],
    [{ 'retry-after': '2', 'x-ratelimit-reset-requests': '6m0s' }, 2],
    [{ 'x-ratelimit-reset-requests': '1s' }, 1],
    [{ 'x-ratelimit-reset-requests': '6m0s' }, 360],
    [{ 'x-ratelimit-reset-tokens': '20ms' }, 0.02],
    [{ 'x-ratelimit-reset-tokens': '1h2m3.5s' }, 3723.5],
    [{ 'x-ratelimit-reset': '30' }, 30],
    [{ 'ratelimit-reset': '7' }, 7],
    [{ 'x-ratelimit-reset-requests': '1s', 'x-ratelimit-reset-tokens': '5s' }, 5],
    [
      { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '1s', 'x-ratelimit-reset-tokens': '5s' },
      1,
    ],
    [{ 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-requests': '9s', 'x-ratelimit-reset-tokens': '5s' }, 5],
    [
      { 'x-ratelimit-remaining-tokens': '9', 'x-ratelimit-reset-tokens': '6m0s', 'x-ratelimit-reset-requests': '5s' },
      5,
    ],
    [{ 'x-ratelimit-remaining-tokens': '9', 'x-ratelimit-reset-tokens': '6m0s' }, undefined],
    [{ 'retry-after': 'soon' }, undefined],
    [{ 'retry-after': '-5' }, undefined],
    [{ 'retry-after': 'x 5' }, undefined],
    [{ 'retry-after': '' }, undefined],
    [{ 'x-ratelimit-reset-requests': '1s later' }, undefined],
    [{}, undefined],
  ])('reads %j', (headers, expected) => {
    expect(retryAfterSeconds({ status: 429, headers })).toBe(expected);
  });

  it.each([
    ['retry-after', () => new Date(inOneMinute()).toUTCString()],
    ['x-ratelimit-reset', () => String(inOneMinute() / 1000)],
    ['x-ratelimit-reset', () => String(inOneMinute())],
    ['x-ratelimit-reset-requests', () => new Date(inOneMinute()).toISOString()],
  ])('reads a moment in %s', (name, value) => {
    const seconds = retryAfterSeconds({ status: 429, headers: { [name]: value() } });
    expect(seconds).toBeGreaterThan(55);
    expect(seconds).toBeLessThanOrEqual(60);
  });

  it('takes what is past for now', () => {
    const read = (headers: Record<string, string>) => retryAfterSeconds({ status: 429, headers });
    expect(read({ 'retry-after': new Date(Date.now() - 60_000).toUTCString() })).toBe(0);
    expect(read({ 'x-ratelimit-reset': String(Date.now() / 1000 - 5) })).toBe(0);
  });

  it.each([400, 401, 408, 500, 503])('takes the state of limits for no reason of a %i', (status) => {
    const headers = { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '6m0s' };
    expect(retryAfterSeconds({ status, headers })).toBeUndefined();
    expect(retryAfterSeconds({ status, headers: { ...headers, 'retry-after': '4' } })).toBe(4);
  });
});

describe('exhaustedSeconds', () => {
  it.each([
    [{ 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '2s' }, 2],
    [{ 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '20ms' }, 0.02],
    [{ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '3' }, 3],
    [{ 'ratelimit-remaining': '0', 'ratelimit-reset': '4' }, 4],
    [{ 'x-ratelimit-remaining-requests': '1', 'x-ratelimit-reset-requests': '2s' }, undefined],
    [{ 'x-ratelimit-remaining-requests': '', 'x-ratelimit-reset-requests': '2s' }, undefined],
    [{ 'x-ratelimit-remaining-requests': '0' }, undefined],
    [{ 'x-ratelimit-reset-requests': '2s' }, undefined],
  ])('reads %j', (headers, expected) => {
    expect(exhaustedSeconds(headers)).toBe(expected);
  });
});
