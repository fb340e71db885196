import { describe, expect, it } from 'vitest';
import { Circuit, type CircuitOptions, PatienceExhaustedError } from '../../../src/providers/circuit.js';
import { ProviderCallError } from '../../../src/providers/provider-call-error.js';

function failure(code = 'provider_unreachable', retryAfterSeconds?: number): ProviderCallError {
  return new ProviderCallError({ code, message: code, billing: 'unbilled', retryable: true, retryAfterSeconds });
}

/** A circuit on a clock that stands still until it is set. */
function circuitAt0(options: Partial<CircuitOptions> = {}) {
  const clock = { now: 0 };
  const circuit = new Circuit({
    threshold: 3,
    baseDelayMs: 1000,
    maxDelayMs: 6000,
    patienceMs: 100_000,
    now: () => clock.now,
    ...options,
  });
  const shutdown = new AbortController();
  return {
    clock,
    circuit,
    shutdown,
    admit: () => circuit.admit(shutdown.signal),
    fail(times = 1, ...of: Parameters<typeof failure>) {
      for (let i = 0; i < times; i++) circuit.failed(failure(...of));
    },
    failProbe: (...of: Parameters<typeof failure>) => circuit.failed(failure(...of), true),
  };
}

const WAITS = Symbol('waits');

/** What a promise has come to by now, without time passing. */
function now<T>(promise: Promise<T>): Promise<T | typeof WAITS> {
  return Promise.race([promise, new Promise<typeof WAITS>((resolve) => setImmediate(() => resolve(WAITS)))]);
}

describe('Circuit', () => {
  it('lets calls pass until as many failures in a row as its threshold', async () => {
    const { circuit, admit, fail, shutdown } = circuitAt0();
    fail(2);
    circuit.succeeded();
    fail(2);
    expect(await admit()).toBe('call');
    fail();
    expect(circuit.isOpen).toBe(true);
    const waiting = admit();
    expect(await now(waiting)).toBe(WAITS);
    shutdown.abort();
    expect(await waiting).toBe('aborted');
  });

  it('sends one caller to probe when the delay is over, and all others when that succeeds', async () => {
    const { circuit, clock, admit, fail } = circuitAt0();
    fail(3);
    clock.now = 1000;
    expect(await admit()).toBe('probe');
    const others = [admit(), admit()];
    expect(await now(Promise.any(others))).toBe(WAITS);
    circuit.succeeded();
    expect(await Promise.all(others)).toEqual(['call', 'call']);
    expect(circuit.isOpen).toBe(false);
  });

  it('waits twice as long after each probe that failed, up to the longest delay', async () => {
    const { circuit, clock, admit, fail, failProbe } = circuitAt0();
    fail(3);
    for (const delay of [1000, 2000, 4000, 6000, 6000]) {
      clock.now += delay - 1;
      const early = new AbortController();
      const waiting = circuit.admit(early.signal);
      expect(await now(waiting)).toBe(WAITS);
      early.abort();
      await waiting;
      clock.now += 1;
      expect(await admit()).toBe('probe');
      failProbe();
    }
  });

  it('does not take the failure of a call that was on its way when it opened for that of its probe', async () => {
    const { circuit, clock, admit, fail } = circuitAt0();
    fail(3);
    clock.now = 1000;
    expect(await admit()).toBe('probe');
    fail();
    clock.now = 60_000;
    const other = admit();
    expect(await now(other)).toBe(WAITS);
    circuit.succeeded();
    expect(await other).toBe('call');
  });

  it('begins with the shortest delay again after a success', async () => {
    const { circuit, clock, admit, fail, failProbe } = circuitAt0();
    fail(3);
    clock.now = 1000;
    await admit();
    failProbe();
    clock.now = 3000;
    await admit();
    circuit.succeeded();
    fail(3);
    clock.now = 4000;
    expect(await admit()).toBe('probe');
  });

  it('probes no sooner than the provider asked', async () => {
    const { circuit, clock, admit, fail } = circuitAt0();
    fail(2);
    fail(1, 'provider_unavailable', 30);
    clock.now = 29_999;
    const early = new AbortController();
    const waiting = circuit.admit(early.signal);
    expect(await now(waiting)).toBe(WAITS);
    early.abort();
    await waiting;
    clock.now = 30_000;
    expect(await admit()).toBe('probe');
  });

  it('wakes those who wait by itself when the delay is over', async () => {
    const { admit, fail } = circuitAt0({ baseDelayMs: 20, now: undefined });
    fail(3);
    const before = performance.now();
    expect(await admit()).toBe('probe');
    expect(performance.now() - before).toBeGreaterThanOrEqual(15);
  });

  it('is not opened by rate limits', async () => {
    const { circuit, admit, fail } = circuitAt0();
    fail(10, 'provider_rate_limited');
    expect(circuit.isOpen).toBe(false);
    expect(await admit()).toBe('call');
    fail(2);
    expect(circuit.isOpen).toBe(false);
  });

  it('counts a probe that meets a rate limit as failed', async () => {
    const { circuit, clock, admit, fail, shutdown, failProbe } = circuitAt0();
    fail(3);
    clock.now = 1000;
    await admit();
    failProbe('provider_rate_limited', 5);
    expect(circuit.isOpen).toBe(true);
    clock.now = 5999;
    const waiting = admit();
    expect(await now(waiting)).toBe(WAITS);
    shutdown.abort();
    await waiting;
  });

  it('gives the probe to another caller when it is abandoned', async () => {
    const { circuit, clock, admit, fail } = circuitAt0();
    fail(3);
    clock.now = 1000;
    await admit();
    const other = admit();
    expect(await now(other)).toBe(WAITS);
    circuit.abandonProbe();
    expect(await other).toBe('probe');
  });

  it('gives up when the provider failed for longer than patience allows, with the last failure as cause', async () => {
    const { circuit, clock, fail, admit } = circuitAt0({ patienceMs: 5000 });
    fail();
    clock.now = 3000;
    const last = failure('provider_timeout');
    circuit.failed(last);
    expect(await admit()).toBe('call');
    clock.now = 5000;
    const given = await admit().catch((error: unknown) => error);
    expect(given).toBeInstanceOf(PatienceExhaustedError);
    expect(given).toHaveProperty('cause', last);
  });

  it('gives up with those who wait, too, while a probe is under way', async () => {
    const { admit, fail } = circuitAt0({ baseDelayMs: 1, patienceMs: 300, now: undefined });
    fail(3);
    expect(await admit()).toBe('probe');
    await expect(admit()).rejects.toBeInstanceOf(PatienceExhaustedError);
  });

  it('goes on losing patience with a provider that answers nothing but probes, and says so', async () => {
    const { circuit, clock, admit, fail } = circuitAt0({ patienceMs: 5000 });
    fail(3);
    clock.now = 1000;
    expect(await admit()).toBe('probe');
    circuit.probeSucceeded();
    expect(await admit()).toBe('call');
    fail(3);
    clock.now = 5000;
    await expect(admit()).rejects.toMatchObject({ name: 'PatienceExhaustedError', answersProbes: true });
  });

  it('has all its patience again after a success', async () => {
    const { circuit, clock, admit, fail } = circuitAt0({ patienceMs: 5000 });
    fail();
    circuit.succeeded();
    clock.now = 60_000;
    fail();
    clock.now = 64_999;
    expect(await admit()).toBe('call');
  });

  it('tries patience with rate limits, too', async () => {
    const { clock, admit, fail } = circuitAt0({ patienceMs: 5000 });
    fail(1, 'provider_rate_limited');
    clock.now = 5000;
    await expect(admit()).rejects.toBeInstanceOf(PatienceExhaustedError);
  });

  it('admits nobody once the signal has fired', async () => {
    const { admit, shutdown } = circuitAt0();
    shutdown.abort();
    expect(await admit()).toBe('aborted');
  });
});
