import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WarmAdapters } from '../../../src/adapters/warm-adapters.js';

const LIMITS = { adapters: 3, bytes: 100 };

function warmOf(...sizes: [id: string, bytes: number][]): WarmAdapters<string> {
  const warm = new WarmAdapters<string>(LIMITS);
  for (const [id, bytes] of sizes) warm.set(id, id, bytes);
  return warm;
}

describe('WarmAdapters', () => {
  it('keeps so many, and lets the least recently used go', () => {
    const warm = warmOf(['a', 1], ['b', 1], ['c', 1]);
    expect(warm.get('a')).toBe('a');
    warm.set('d', 'd', 1);
    expect(warm.ids).toEqual(['c', 'a', 'd']);
    expect(warm.get('b')).toBeUndefined();
  });

  it('keeps no more bytes than it may, and lets as many go as that takes', () => {
    expect(warmOf(['a', 50], ['b', 50]).ids).toEqual(['a', 'b']);
    expect(warmOf(['a', 50], ['b', 51]).ids).toEqual(['b']);
    expect(warmOf(['a', 40], ['b', 40], ['c', 70]).ids).toEqual(['c']);
  });

  it('keeps the one just used, however large it is', () => {
    const warm = warmOf(['a', 10], ['large', 1000]);
    expect(warm.ids).toEqual(['large']);
    warm.set('b', 'b', 10);
    expect(warm.ids).toEqual(['b']);
  });

  it('forgets the bytes of what is replaced or deleted', () => {
    const warm = warmOf(['a', 90], ['a', 20], ['b', 80]);
    expect(warm.ids).toEqual(['a', 'b']);
    warm.delete('b');
    warm.delete('nobody');
    warm.set('c', 'c', 80);
    expect(warm.ids).toEqual(['a', 'c']);
  });

  it('is within its limits after every use, with what was used last, in the order of use', () => {
    const ids = fc.constantFrom('a', 'b', 'c', 'd', 'e');
    const use = fc.oneof(
      fc.record({ do: fc.constant('get' as const), id: ids, bytes: fc.constant(0) }),
      fc.record({ do: fc.constant('set' as const), id: ids, bytes: fc.nat(120) }),
      fc.record({ do: fc.constant('delete' as const), id: ids, bytes: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(use, { maxLength: 40 }), (uses) => {
        const warm = new WarmAdapters<string>(LIMITS);
        // The same by looking at everything each time: ids with their bytes, from the first used to the last.
        let expected: [string, number][] = [];
        for (const { do: what, id, bytes } of uses) {
          const known = expected.find(([other]) => other === id);
          if (what === 'get') expect(warm.get(id)).toBe(known && id);
          if (what === 'set') warm.set(id, id, bytes);
          if (what === 'delete') warm.delete(id);
          if (what === 'delete' || known || what === 'set') expected = expected.filter(([other]) => other !== id);
          if (what === 'get' && known) expected.push(known);
          if (what === 'set') expected.push([id, bytes]);
          const isTooMuch = () => {
            const sum = expected.reduce((all, [, own]) => all + own, 0);
            return expected.length > 1 && (expected.length > LIMITS.adapters || sum > LIMITS.bytes);
          };
          while (isTooMuch()) expected.shift();
          expect(warm.ids).toEqual(expected.map(([other]) => other));
        }
      }),
    );
  });
});
