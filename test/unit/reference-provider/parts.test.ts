import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CosineLogits, normaliseRows } from '../../../src/reference-provider/logits.js';
import { LruCache } from '../../../src/reference-provider/lru.js';
import { Misbehaviour } from '../../../src/reference-provider/misbehaviour.js';
import { clientName, UsageCounter } from '../../../src/reference-provider/usage-counter.js';

describe('CosineLogits', () => {
  const numbers = (count: number) =>
    fc.float32Array({ minLength: count, maxLength: count, noNaN: true, min: -1, max: 1 });
  const cases = fc
    .tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 11 }), fc.integer({ min: 1, max: 5 }))
    .chain(([n, c, width]) => fc.tuple(fc.constant({ n, c, width }), numbers(n * width), numbers(c * width)));

  /** As a plain loop in double precision sums it. */
  function element(images: Float32Array, i: number, texts: Float32Array, j: number, width: number): number {
    let sum = 0;
    for (let k = 0; k < width; k++) sum += images[i * width + k] * texts[j * width + k];
    return Math.fround(23.5 * sum);
  }

  it('is the scaled product, each element summed in order in double precision', () => {
    fc.assert(
      fc.property(cases, ([{ n, c, width }, images, texts]) => {
        const cosine = new CosineLogits(width, 23.5);
        const out = new Float32Array(n * c);
        cosine.compute(images, texts, out);
        // Once more with what it has kept, after other images.
        cosine.compute(images.slice(0, width), texts.slice(0, width), new Float32Array(1));
        const again = new Float32Array(n * c);
        cosine.compute(images, texts, again);
        for (let i = 0; i < n; i++) {
          for (let j = 0; j < c; j++) {
            expect(out[i * c + j]).toBe(element(images, i, texts, j, width));
            expect(again[i * c + j]).toBe(out[i * c + j]);
          }
        }
      }),
    );
  });

  it('takes more images and texts than its memory holds at a time', () => {
    const [n, c, width] = [1500, 300, 3];
    const images = Float32Array.from({ length: n * width }, (_, i) => Math.sin(i));
    const texts = Float32Array.from({ length: c * width }, (_, i) => Math.cos(i));
    const out = new Float32Array(n * c);
    new CosineLogits(width, 23.5).compute(images, texts, out);
    const expected = Float32Array.from({ length: n * c }, (_, q) =>
      element(images, Math.floor(q / c), texts, q % c, width),
    );
    expect(out).toEqual(expected);
  });

  it('normalises rows and leaves a row of zeros', () => {
    const rows = Float32Array.from([3, 4, 0, 0]);
    normaliseRows(rows, 2);
    expect([...rows]).toEqual([Math.fround(0.6), Math.fround(0.8), 0, 0]);
  });
});

describe('LruCache', () => {
  it('drops what was used least recently once the weight is too large', () => {
    const cache = new LruCache<string>(3);
    cache.set('a', 'A');
    cache.set('b', 'B', 2);
    expect(cache.get('a')).toBe('A');
    cache.set('c', 'C');
    expect([cache.get('a'), cache.get('b'), cache.get('c')]).toEqual(['A', undefined, 'C']);
    cache.set('d', 'D', 4);
    expect(cache.size).toBe(0);
  });
});

describe('UsageCounter', () => {
  it('counts by client without keeping keys', () => {
    const usage = new UsageCounter();
    usage.count(clientName('secret'), { prompts: 40, images: 10 });
    usage.count(clientName('secret'), { prompts: 1, images: 5 });
    usage.count(clientName('secret'), { embedded: { images: 7, texts: 9 } });
    usage.count(clientName(undefined), { prompts: 2, images: 3 });
    expect(usage.report('secret').totals).toEqual({
      requests: 3,
      prompt_evaluations: 41,
      image_queries: 412,
      text_embeddings: 9,
    });
    expect(usage.report('anonymous').totals.image_queries).toBe(6);
    expect(usage.report('other').totals.requests).toBe(0);
    expect(usage.report().totals).toEqual({
      requests: 4,
      prompt_evaluations: 43,
      image_queries: 418,
      text_embeddings: 9,
    });
    expect(JSON.stringify(usage.report())).not.toContain('secret');
    usage.reset();
    expect(usage.report()).toEqual({
      keys: {},
      totals: { requests: 0, prompt_evaluations: 0, image_queries: 0, text_embeddings: 0 },
    });
  });
});

describe('Misbehaviour', () => {
  const kinds = (m: Misbehaviour, n: number) => Array.from({ length: n }, () => m.next().fault?.kind ?? 'none');

  it('commits planned failures in order and then stops', () => {
    const m = new Misbehaviour();
    m.configure({ latency_ms: 7, fail_next: [{ kind: '503', retry_after_s: 2, count: 2 }, { kind: 'hang' }] });
    expect(m.next()).toEqual({ latencyMs: 7, fault: { kind: '503', retryAfterSeconds: 2 } });
    expect(m.status().fail_next).toEqual([
      { kind: '503', retry_after_s: 2, count: 1 },
      { kind: 'hang', count: 1 },
    ]);
    expect(kinds(m, 3)).toEqual(['503', 'hang', 'none']);
    expect(m.status().committed).toEqual({ '503': 2, hang: 1 });
    m.configure({});
    expect(m.next()).toEqual({ latencyMs: 0, fault: undefined });
  });

  it('limits the rate and says when to come back', () => {
    let now = 0;
    const m = new Misbehaviour(() => now);
    m.configure({ requests_per_second: 0.5 });
    expect(kinds(m, 1)).toEqual(['none']);
    expect(m.next().fault).toEqual({ kind: '429', retryAfterSeconds: 2 });
    now = 1999;
    expect(m.next().fault).toEqual({ kind: '429', retryAfterSeconds: 1 });
    now = 2000;
    expect(kinds(m, 2)).toEqual(['none', '429']);
    m.configure({ requests_per_second: 3 });
    expect(kinds(m, 4)).toEqual(['none', 'none', 'none', '429']);
  });

  it('holds what comes later than it was told, until its plan is replaced', async () => {
    const m = new Misbehaviour();
    m.configure({ hold_after: 2 });
    expect([m.next().held, m.next().held]).toEqual([undefined, undefined]);
    const released: string[] = [];
    const held = ['third', 'fourth'].map((name) => m.next().held?.then(() => released.push(name)));
    expect(m.status()).toMatchObject({ hold_after: 0, held: 2 });
    m.configure({ hold_after: 1 });
    await Promise.all(held);
    expect(released).toEqual(['third', 'fourth']);
    expect(m.status()).toMatchObject({ hold_after: 1, held: 0 });
    expect(m.next().held).toBeUndefined();
    expect(m.next().held).toBeInstanceOf(Promise);
  });

  it('fails by chance, repeatably for a seed, at the rates asked for', () => {
    const m = new Misbehaviour();
    const draw = (seed: number) => {
      m.configure({ error_rate: { '429': 0.1, drop_after: 0.2 }, seed });
      return kinds(m, 5000);
    };
    const first = draw(1);
    expect(draw(1)).toEqual(first);
    expect(draw(2)).not.toEqual(first);
    const share = (kind: string) => first.filter((k) => k === kind).length / first.length;
    expect(share('429')).toBeCloseTo(0.1, 1);
    expect(share('drop_after')).toBeCloseTo(0.2, 1);
  });

  it.each([
    { latency_ms: -1 },
    { hold_after: -1 },
    { error_rate: { '429': 0.6, '500': 0.6 } },
    { error_rate: { '418': 0.1 } },
    { fail_next: [{ kind: 'nap' }] },
    { fail_next: [{ kind: 'hang', count: 0 }] },
    { requests_per_second: 0 },
    { unknown: 1 },
    'text',
  ])('refuses %j and keeps its plan', (plan) => {
    const m = new Misbehaviour();
    m.configure({ latency_ms: 3 });
    expect(() => m.configure(plan)).toThrow();
    expect(m.status().latency_ms).toBe(3);
  });
});
