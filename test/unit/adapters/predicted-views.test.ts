import { createHash } from 'node:crypto';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { encodeAdapter } from '../../../src/adapters/adapter-file.js';
import { Predictor } from '../../../src/adapters/predictor.js';
import { Random } from '../../../src/craft/random.js';
import type { Database } from '../../../src/db/client.js';
import type { Ledger } from '../../../src/ledger/ledger.js';
import type { ProviderImage, ScoreRequest, ScoringProvider } from '../../../src/providers/provider.js';
import type { ProviderStore } from '../../../src/providers/provider-store.js';
import { linearHeadOf, SCORES, WITH_PROBES, weightsOf } from './economy-heads.js';

const MOST_REQUEST_BYTES = 20_000;

/** A provider that takes only so many bytes at once; remembers what it was sent. */
function predictorOf() {
  const sent: ProviderImage[] = [];
  const provider = {
    kind: 'scoring',
    id: 'prov-1',
    name: 'box',
    capabilities: { returns: 'logits', defaultTemplate: '{}' },
    prices: {
      perRequestNanoUsd: 0n,
      perImageQueryNanoUsd: 0n,
      perInputTokenPicoUsd: 0n,
      perOutputTokenPicoUsd: 0n,
    },
    limits: {
      requestsPerSecond: null,
      concurrency: 2,
      imagesPerRequest: 16,
      promptsPerRequest: 1,
      maxRequestBytes: MOST_REQUEST_BYTES,
    },
    async score({ images, classes }: ScoreRequest) {
      sent.push(...images);
      return { logits: new Float32Array(images.length * classes.names.length), billed: null };
    },
  } as unknown as ScoringProvider;
  const weights = encodeAdapter(weightsOf(linearHeadOf(SCORES)), WITH_PROBES);
  const row = { id: 'a', jobId: null, providerId: 'prov-1', deletedAt: null, weights };
  const database = { adapter: { findUnique: async () => row } } as unknown as Database;
  const ledger = { reserve: async () => ({ epoch: null }), settleLater: () => {} } as unknown as Ledger;
  const providers = { connect: async () => provider } as unknown as ProviderStore;
  return { predictor: new Predictor(database, ledger, providers, 'test', 0), sent };
}

/** Noise, which a PNG holds as it is. */
async function noise(side: number, format: 'webp' | 'png'): Promise<ProviderImage> {
  const random = Random.stream(side, 'noise');
  const pixels = Buffer.from(Array.from({ length: side * side * 3 }, () => Math.floor(256 * random.uniform())));
  const image = sharp(pixels, { raw: { width: side, height: side, channels: 3 } });
  const bytes = await (format === 'png' ? image.png() : image.webp({ quality: 20 })).toBuffer();
  return { sha256: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, bytes: async () => bytes };
}

const OPTIONS = { topK: 3, blackBox: false, apiKeyId: null };

describe('transforms of an image in a prediction', () => {
  it('are compressed like those in training where they would be larger than a request', async () => {
    const { predictor, sent } = predictorOf();
    const image = await noise(96, 'webp');
    expect(image.size).toBeLessThan(MOST_REQUEST_BYTES / 2);
    const { data } = await predictor.predict('a', [image], OPTIONS);
    expect(data).toHaveLength(1);
    expect(sent).toHaveLength(2);
    const [itself, mirrored] = sent;
    expect(itself.sha256).toBe(image.sha256);
    expect(mirrored.size).toBeLessThan(MOST_REQUEST_BYTES);
    const { width, height } = await sharp(await mirrored.bytes()).metadata();
    expect([width, height]).toEqual([96, 96]);
  });

  it('do not hide which image of the request is too large', async () => {
    const { predictor, sent } = predictorOf();
    const images = [await noise(16, 'png'), await noise(17, 'png'), await noise(96, 'png')];
    await expect(predictor.predict('a', images, OPTIONS)).rejects.toMatchObject({
      code: 'image_too_large_for_provider',
      param: 'images.2',
    });
    expect(sent).toEqual([]);
  });
});
