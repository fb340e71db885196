import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Tests that open models themselves: ONNX Runtime reports its use unless it is told not to.
    env: { ORT_DISABLE_TELEMETRY: '1' },
    globalSetup: ['test/helpers/global-setup.ts'],
    // For a machine that is several times slower than ours; a test that waits in vain ends by it, too.
    testTimeout: 240_000,
    hookTimeout: 300_000,
    // Vitest waits one second otherwise, which a busy machine can take for anything.
    expect: { poll: { timeout: 20_000, interval: 20 } },
    pool: 'forks',
    maxWorkers: 2,
  },
});
