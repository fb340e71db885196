import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { describeEmbeddings, EmbeddingsProvider } from '../../../src/providers/embeddings.js';
import type { ConnectionOf } from '../../../src/providers/provider-connection.js';
import { subjectConnection } from '../../helpers/contract.js';

const opened: EmbeddingsProvider[] = [];
afterEach(async () => {
  for (const provider of opened.splice(0)) await provider.close();
});

const FREE = { perRequestNanoUsd: 0n, perImageQueryNanoUsd: 0n, perInputTokenPicoUsd: 0n, perOutputTokenPicoUsd: 0n };

function connection(dialect: string, settings: Record<string, unknown> = {}): ConnectionOf<'embeddings'> {
  const changes = { settings: { max_image_tokens: undefined, dialect, ...settings } };
  return subjectConnection('embeddings: infinity', 'http://127.0.0.1:9', changes) as ConnectionOf<'embeddings'>;
}

describe('what a provider of embeddings states', () => {
  it.each([
    ['infinity', null, 5000, 4096],
    ['jina', null, 5000, 16_000],
    ['cohere', 96, 96, 16_384],
    ['voyage', 11, 1000, 28_600],
  ])(
    'is for %s at most %j images, %i of 5,000 texts and %i tokens an image',
    async (dialect, images, texts, tokens) => {
      const capabilities = await describeEmbeddings(connection(dialect, { texts_per_request: 5000 }));
      expect(capabilities).toMatchObject({ maxImagesPerRequest: images, maxTextsPerRequest: texts });
      expect(capabilities.tokens).toMatchObject({ perImage: tokens, perRequest: 64 + 4 * texts });
    },
  );

  it('follows the record where that says less', async () => {
    const capabilities = await describeEmbeddings(
      connection('voyage', { texts_per_request: 8, max_image_tokens: 3200 }),
    );
    expect(capabilities).toMatchObject({ maxImagesPerRequest: 100, maxTextsPerRequest: 8 });
    expect(capabilities.tokens?.perImage).toBe(3200);
  });
});

describe('what embeddings of images are kept under', () => {
  const SIZE = { width: 224, height: 224, fit: 'cover', kernel: 'cubic' };

  async function spaceOf(settings: Record<string, unknown>): Promise<string> {
    const stated = connection('infinity', settings);
    const provider = new EmbeddingsProvider(stated, await describeEmbeddings(stated), FREE);
    opened.push(provider);
    return provider.imageSpace;
  }

  /** As it was while images were scaled as they lie in the file. */
  function formerly(imageSize?: object): string {
    const { remoteModel } = connection('infinity');
    return createHash('sha256')
      .update(JSON.stringify([remoteModel, 'infinity', undefined, undefined, imageSize, {}]))
      .digest('hex')
      .slice(0, 16);
  }

  it('is another now that they are scaled upright, and the same where they are not scaled', async () => {
    expect(await spaceOf({})).toBe(formerly());
    expect(await spaceOf({ image_size: SIZE })).not.toBe(formerly(SIZE));
    expect(await spaceOf({ image_size: SIZE })).toBe(await spaceOf({ image_size: SIZE }));
  });
});
