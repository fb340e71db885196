import { describe, expect, it } from 'vitest';
import { noHead } from '../../../src/craft/economy/linear-head.js';
import { initialHead } from '../../../src/craft/head-weights.js';
import { Random } from '../../../src/craft/random.js';
import { describeEnd, describeFewerTransforms, stopReasonOf } from '../../../src/jobs/stop-reason.js';
import { LimitReachedError } from '../../../src/ledger/accounts.js';
import { DeadlinePassedError } from '../../../src/ledger/reservation.js';
import { QUERIED } from '../../../src/views/transforms.js';

describe('describeFewerTransforms', () => {
  const plan = { transforms: QUERIED[4] };
  const weightsOf = (transforms: number) => ({ head: noHead({ kind: 'scores', probes: 0, transforms }, 2) });

  it('names those that predictions ask about, where they are not all that were planned', () => {
    expect(describeFewerTransforms(plan, weightsOf(3))).toBe(
      ' A prediction with it asks about 3 of the 4 transforms that were planned: identity, blur, negative.',
    );
    expect(describeFewerTransforms(plan, weightsOf(1))).toContain('asks about 1 of the 4');
  });

  it('is silent about all of them, one, and heads that read none', () => {
    expect(describeFewerTransforms(plan, weightsOf(4))).toBe('');
    expect(describeFewerTransforms({}, weightsOf(1))).toBe('');
    expect(describeFewerTransforms(plan, { head: initialHead(2, 3, Random.stream(1, 'head')) })).toBe('');
  });
});

describe('describeEnd', () => {
  it('says why a job ended before its plan', () => {
    expect(describeEnd('budget_exhausted', { mostGenerations: 4 }, 4)).toMatch(/did not pay for a further generation/);
    expect(describeEnd('deadline', {}, 3)).toMatch(/deadline came/);
    expect(describeEnd('plateau', { mostGenerations: 32 }, 8)).toMatch(/no longer pay/);
  });

  it('says that there are no more views than were asked about, where there is such an end', () => {
    expect(describeEnd(null, { mostGenerations: 2 }, 2)).toMatch(/all the views that it asks about/);
    expect(describeEnd(null, { mostGenerations: 2 }, 1)).toBe('');
    expect(describeEnd(null, {}, 1000)).toBe('');
  });
});

describe('stopReasonOf', () => {
  const shortage = { accountId: 'ftjob-1', unit: 'imageQueries', limit: 10, remaining: 1, needed: 2 } as const;

  it.each([
    ["the job's own limit", new LimitReachedError({ ...shortage, kind: 'job' }), 'budget_exhausted'],
    ['its deadline', new DeadlinePassedError(), 'deadline'],
    ["the provider's limit, which pauses it", new LimitReachedError({ ...shortage, kind: 'provider' }), null],
    ['anything else', new Error('lost'), null],
  ])('of %s', (_, error, reason) => expect(stopReasonOf(error)).toBe(reason));
});
