import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Crowd } from '../../../src/adapters/crowd.js';

describe('Crowd', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  function come(crowd: Crowd, callers: number): void {
    for (let i = 0; i < callers; i++) {
      crowd.comes();
      crowd.hasBeenRead();
      crowd.waits();
    }
  }

  function ask(crowd: Crowd, callers: number): void {
    come(crowd, callers);
    crowd.areSent(callers);
  }

  function known(callers: number): Crowd {
    const crowd = new Crowd();
    ask(crowd, callers);
    crowd.areAnswered(callers);
    return crowd;
  }

  it('is not complete while nothing is known of it', () => {
    const crowd = new Crowd();
    come(crowd, 5);
    expect(crowd.isComplete).toBe(false);
  });

  it('is complete when as many wait as there were, and nobody is being read', () => {
    const crowd = known(3);
    expect(crowd.isComplete).toBe(false);
    come(crowd, 2);
    expect(crowd.isComplete).toBe(false);
    crowd.comes();
    crowd.waits();
    expect(crowd.isComplete).toBe(false);
    expect(crowd.isReading).toBe(true);
    crowd.hasBeenRead();
    expect(crowd.isComplete).toBe(true);
    come(crowd, 1);
    expect(crowd.isComplete).toBe(true);
  });

  it('is not complete while some are being answered, who will come again', () => {
    const crowd = known(2);
    ask(crowd, 1);
    come(crowd, 2);
    expect(crowd.isComplete).toBe(false);
    crowd.areAnswered(1);
    // Three were there at the same time.
    expect(crowd.isComplete).toBe(false);
    come(crowd, 1);
    expect(crowd.isComplete).toBe(true);
  });

  it('is not complete with one, who says nothing of others', () => {
    const crowd = known(1);
    come(crowd, 1);
    expect(crowd.isComplete).toBe(false);
  });

  it('remembers the most of a while, and forgets them after it', () => {
    const crowd = known(4);
    vi.advanceTimersByTime(90);
    ask(crowd, 2);
    crowd.areAnswered(2);
    come(crowd, 2);
    expect(crowd.isComplete).toBe(false);
    crowd.areSent(2);
    vi.advanceTimersByTime(90);
    crowd.areAnswered(2);
    vi.advanceTimersByTime(110);
    come(crowd, 2);
    expect(crowd.isComplete).toBe(true);
    vi.advanceTimersByTime(200);
    expect(crowd.isComplete).toBe(false);
  });

  it('is forgotten when nobody is there and its time has passed', () => {
    const crowd = new Crowd();
    expect(crowd.isForgotten).toBe(true);
    crowd.comes();
    expect(crowd.isForgotten).toBe(false);
    crowd.hasBeenRead();
    crowd.waits();
    expect(crowd.isForgotten).toBe(false);
    crowd.areSent(1);
    expect(crowd.isForgotten).toBe(false);
    crowd.areAnswered(1);
    expect(crowd.isForgotten).toBe(false);
    vi.advanceTimersByTime(200);
    expect(crowd.isForgotten).toBe(true);
  });
});
