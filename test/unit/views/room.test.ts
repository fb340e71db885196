import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Room } from '../../../src/views/room.js';

describe('Room', () => {
  it('has never more in it than it is large, and everything has its turn in the order in which it came', async () => {
    const work = fc.record({ size: fc.integer({ min: 0, max: 15 }), turns: fc.nat(4), fails: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(work, { maxLength: 20 }), async (all) => {
        const room = new Room(10);
        let inside = 0;
        const begun: number[] = [];
        const outcomes = await Promise.allSettled(
          all.map(({ size, turns, fails }, index) =>
            room.use(size, async () => {
              begun.push(index);
              inside += Math.min(10, size);
              expect(inside).toBeLessThanOrEqual(10);
              for (let i = 0; i < turns; i++) await turn();
              inside -= Math.min(10, size);
              if (fails) throw new Error(`${index}`);
              return index;
            }),
          ),
        );
        expect(begun).toEqual(all.map((_, index) => index));
        for (const [index, outcome] of outcomes.entries()) {
          if (all[index].fails) expect(outcome).toMatchObject({ reason: { message: `${index}` } });
          else expect(outcome).toMatchObject({ value: index });
        }
      }),
    );
  });

  it('lets in together what it has room for', async () => {
    const room = new Room(10);
    let most = 0;
    let inside = 0;
    const one = () =>
      room.use(5, async () => {
        most = Math.max(most, ++inside);
        await turn();
        inside--;
      });
    await Promise.all([one(), one(), one()]);
    expect(most).toBe(2);
  });
});
