import { setTimeout as sleep } from 'node:timers/promises';
import { type Database, Prisma } from '../db/client.js';
import { ProviderError } from '../errors.js';
import { type CallLimits, cutIntoCalls } from '../providers/calls.js';
import { mapConcurrent } from '../providers/map-concurrent.js';
import type { EmbeddingProvider, ProviderImage } from '../providers/provider.js';

/**
 * The embeddings of images that were paid for, per provider and model and by content, for jobs and predictions alike. The
 * ledger writes them together with the settlement of the call that brought them.
 */

/** Whose embeddings are meant. */
export type EmbeddingSource = Pick<EmbeddingProvider, 'id' | 'imageSpace'>;

const KEPT_DAYS = 90;
const DAY_MS = 24 * 60 * 60 * 1000;
const READ_AT_ONCE = 5000;
/** Whoever died lets go by then; whoever lives, however long a provider is not there, claims again in time. */
const CLAIM_SECONDS = 900;
/** Share of a claim's time after which it is renewed: twice, should a statement be lost. */
const RENEWED_AFTER = 0.3;
const RETRY_MS = 250;

/** A call that brings embeddings. */
export interface ImageCall {
  chunk: number;
  images: ProviderImage[];
}

/** Somebody else is bringing an image, and has been for long. Asking again later helps. */
export class EmbeddingUnderWayError extends ProviderError {
  constructor() {
    super(
      {
        code: 'embedding_under_way',
        message: `An image is being embedded for another request. Try again in a few seconds; should its process have died, it is free ${CLAIM_SECONDS / 60} minutes later at most.`,
        retryAfterSeconds: 5,
      },
      503,
    );
  }
}

export class ImageEmbeddings {
  constructor(
    private readonly database: Database,
    private readonly claimSeconds = CLAIM_SECONDS,
  ) {}

  /**
   * Brings what is missing. What another job, prediction or process is bringing at the same time is waited for, so that no
   * image is paid for twice.
   * @param fetch asks for the images of a call and has their embeddings stored
   * @throws EmbeddingUnderWayError when somebody else takes longer than `patienceMs`; and as `fetch` throws
   */
  async bring(
    source: EmbeddingSource,
    wanted: { images: ProviderImage[]; sizes: number[]; limits: CallLimits; concurrency: number },
    claimant: { owner: string; signal?: AbortSignal; patienceMs?: number },
    fetch: (call: ImageCall) => Promise<void>,
  ): Promise<void> {
    const { images, sizes, limits, concurrency } = wanted;
    let waitingSince: number | null = null;
    for (;;) {
      const missing = missingImageCalls(images, sizes, await this.known(source, images), limits);
      if (missing.length === 0) return;
      let progress = false;
      await mapConcurrent(missing, concurrency, async (call) => {
        const own = await this.claim(source, call.images, claimant.owner);
        if (own.length === 0) return;
        progress = true;
        const renewing = setInterval(
          () => {
            void this.renew(source, own, claimant.owner).catch(() => {});
          },
          this.claimSeconds * RENEWED_AFTER * 1000,
        );
        try {
          await fetch({ chunk: call.chunk, images: own });
        } finally {
          clearInterval(renewing);
          await this.release(source, own, claimant.owner);
        }
      });
      if (progress) continue;
      waitingSince ??= performance.now();
      if (performance.now() - waitingSince > (claimant.patienceMs ?? Number.POSITIVE_INFINITY)) {
        throw new EmbeddingUnderWayError();
      }
      await sleep(RETRY_MS, undefined, { signal: claimant.signal });
    }
  }

  /** @returns those that are the owner's to bring now, and that nobody has brought meanwhile */
  private async claim(source: EmbeddingSource, images: ProviderImage[], owner: string): Promise<ProviderImage[]> {
    const { id, imageSpace } = source;
    const hashes = images.map(({ sha256 }) => sha256).sort();
    const rows = await this.database.$queryRaw<{ sha256: Uint8Array }[]>`
      INSERT INTO image_embedding_claims AS c (provider_id, space, sha256, owner, expires_at)
        SELECT ${id}, ${imageSpace}, decode(h, 'hex'), ${owner}, now() + make_interval(secs => ${this.claimSeconds}::float8)
        FROM unnest(${hashes}::text[]) h
        ON CONFLICT (provider_id, space, sha256) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
          WHERE c.owner = excluded.owner OR c.expires_at < now()
        RETURNING sha256`;
    const claimed = new Set(rows.map(({ sha256 }) => Buffer.from(sha256).toString('hex')));
    const own = images.filter(({ sha256 }) => claimed.has(sha256));
    const known = await this.known(source, own);
    const brought = own.filter(({ sha256 }) => known.has(sha256));
    if (brought.length > 0) await this.release(source, brought, owner);
    return own.filter(({ sha256 }) => !known.has(sha256));
  }

  /** What takes longer than a claim is still under way: nobody else is to pay for it, too. */
  private async renew({ id, imageSpace }: EmbeddingSource, images: ProviderImage[], owner: string): Promise<void> {
    await this.database.$executeRaw`
      UPDATE image_embedding_claims SET expires_at = now() + make_interval(secs => ${this.claimSeconds}::float8)
        WHERE provider_id = ${id} AND space = ${imageSpace} AND owner = ${owner}
          AND sha256 IN (SELECT decode(h, 'hex') FROM unnest(${images.map(({ sha256 }) => sha256)}::text[]) h)`;
  }

  private async release({ id, imageSpace }: EmbeddingSource, images: ProviderImage[], owner: string): Promise<void> {
    await this.database.imageEmbeddingClaim.deleteMany({
      where: { providerId: id, space: imageSpace, owner, sha256: { in: images.map(({ sha256 }) => bytesOf(sha256)) } },
    });
  }

  /** The SHA-256 of those that are there. */
  async known(source: EmbeddingSource, images: Pick<ProviderImage, 'sha256'>[]): Promise<Set<string>> {
    const known = new Set<string>();
    for (const part of parts(distinct(images))) {
      const rows = await this.database.imageEmbedding.findMany({
        where: { ...spaceOf(source), sha256: { in: part.map(bytesOf) } },
        select: { sha256: true },
      });
      for (const { sha256 } of rows) known.add(Buffer.from(sha256).toString('hex'));
    }
    return known;
  }

  /**
   * @returns [N, D] in the order of the images; null when they have different lengths
   * @throws Error when one is not there
   */
  async load(
    source: EmbeddingSource,
    images: Pick<ProviderImage, 'sha256'>[],
  ): Promise<{ values: Float32Array; width: number } | null> {
    const found = new Map<string, Float32Array>();
    for (const part of parts(distinct(images))) {
      const rows = await this.database.imageEmbedding.findMany({
        where: { ...spaceOf(source), sha256: { in: part.map(bytesOf) } },
        select: { sha256: true, embedding: true, usedAt: true },
      });
      for (const { sha256, embedding } of rows) {
        // A copy, because the driver's bytes need not be aligned to four.
        found.set(Buffer.from(sha256).toString('hex'), new Float32Array(embedding.slice().buffer));
      }
      // Mostly there is nothing to note.
      const aDayAgo = Date.now() - DAY_MS;
      if (rows.some(({ usedAt }) => usedAt.getTime() < aDayAgo)) await this.use(source, part);
    }
    const width = found.values().next().value?.length ?? 0;
    const values = new Float32Array(images.length * width);
    for (const [i, { sha256 }] of images.entries()) {
      const embedding = found.get(sha256);
      if (!embedding) throw new Error(`The embedding of image ${sha256} is gone.`);
      if (embedding.length !== width) return null;
      values.set(embedding, i * width);
    }
    return { values, width };
  }

  /** Drops those that nobody has used for long, and claims of processes that died. @returns how many embeddings */
  async dropOld(): Promise<number> {
    await this.database.imageEmbeddingClaim.deleteMany({ where: { expiresAt: { lt: new Date() } } });
    return this.database.$executeRaw(
      Prisma.sql`DELETE FROM image_embeddings WHERE used_at < now() - make_interval(days => ${KEPT_DAYS}::int)`,
    );
  }

  /** Notes, once a day, that they are in use. */
  private async use(source: EmbeddingSource, hashes: string[]): Promise<void> {
    const { id, imageSpace } = source;
    await this.database.$executeRaw`
      UPDATE image_embeddings SET used_at = now() WHERE used_at < now() - interval '1 day'
        AND provider_id = ${id} AND space = ${imageSpace}
        AND sha256 IN (SELECT decode(h, 'hex') FROM unnest(${hashes}::text[]) h)`;
  }
}

/**
 * The calls that bring what is missing. They are cut over all images, whatever is there already, so that a call that was
 * cut off asks the same when it is repeated.
 * @param sizes bytes of each image, as it is sent
 */
export function missingImageCalls(
  images: ProviderImage[],
  sizes: number[],
  known: Set<string>,
  limits: CallLimits,
): ImageCall[] {
  const first = new Map(images.map((image, i) => [image.sha256, i] as const).reverse());
  const once = images.filter((image, i) => first.get(image.sha256) === i);
  const onceSizes = sizes.filter((_, i) => first.get(images[i].sha256) === i);
  return cutIntoCalls(1, onceSizes, 1, limits)
    .map(({ chunk, firstImage, imageCount }) => ({
      chunk,
      images: once.slice(firstImage, firstImage + imageCount).filter(({ sha256 }) => !known.has(sha256)),
    }))
    .filter((call) => call.images.length > 0);
}

function spaceOf({ id, imageSpace }: EmbeddingSource) {
  return { providerId: id, space: imageSpace };
}

function distinct(images: Pick<ProviderImage, 'sha256'>[]): string[] {
  return [...new Set(images.map(({ sha256 }) => sha256))];
}

function parts(hashes: string[]): string[][] {
  return Array.from({ length: Math.ceil(hashes.length / READ_AT_ONCE) }, (_, i) =>
    hashes.slice(i * READ_AT_ONCE, (i + 1) * READ_AT_ONCE),
  );
}

function bytesOf(sha256: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(sha256, 'hex'));
}
