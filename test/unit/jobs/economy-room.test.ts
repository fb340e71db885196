import { describe, expect, it } from 'vitest';
import { InvalidRequestError } from '../../../src/errors.js';
import { requireRoomForView } from '../../../src/jobs/economy-plan.js';

const plan = (trainingImages: number, generations = 1) => ({
  generations,
  trainingImages,
  classes: 1000,
  probes: Array.from({ length: 24 }, (_, i) => `probe ${i}`),
});

describe('answers that there is no room for', () => {
  it('are refused before they are paid for, with what helps', () => {
    expect(() => requireRoomForView(plan(131_072))).not.toThrow();
    expect(() => requireRoomForView(plan(131_073))).toThrow(InvalidRequestError);
    expect(() => requireRoomForView(plan(131_073))).toThrow(/shots.*probe_labels/);
  });

  it('are none where nothing is asked', () => {
    expect(() => requireRoomForView(plan(1_000_000, 0))).not.toThrow();
  });
});
