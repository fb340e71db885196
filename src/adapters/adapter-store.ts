import type { AdapterWeights } from '../craft/trainer-interface.js';
import type { Database, Prisma } from '../db/client.js';
import type { Adapter } from '../db/generated/client.js';
import { InvalidRequestError, NotFoundError } from '../errors.js';
import { newId } from '../ids.js';
import type { Ledger } from '../ledger/ledger.js';
import { badCursor, NEWEST_FIRST, olderThan, type Page, type PageRequest } from '../paging.js';
import type { ProviderInfo } from '../providers/provider-row.js';
import type { ProviderStore } from '../providers/provider-store.js';
import { decodeAdapter } from './adapter-file.js';
import { readsAnswers } from './adapter-head.js';

/** An adapter without its weights. */
export type AdapterInfo = Omit<Adapter, 'weights'> & { providerName: string };

export class AdapterStore {
  constructor(
    private readonly database: Database,
    private readonly ledger: Ledger,
    private readonly providers: ProviderStore,
  ) {}

  /** Newest first. */
  async list({ limit, after }: PageRequest): Promise<Page<AdapterInfo>> {
    const cursor = after === undefined ? null : await this.database.adapter.findUnique({ where: { id: after } });
    if (after !== undefined && !cursor) throw badCursor(after);
    const rows = await this.database.adapter.findMany({
      where: {
        deletedAt: null,
        ...(cursor ? olderThan(cursor) : {}),
      },
      orderBy: NEWEST_FIRST,
      take: limit + 1,
      omit: { weights: true },
      include: { provider: { select: { name: true } } },
    });
    return { data: rows.slice(0, limit).map(toInfo), hasMore: rows.length > limit };
  }

  async get(id: string): Promise<AdapterInfo> {
    const row = await this.database.adapter.findUnique({
      where: { id },
      omit: { weights: true },
      include: { provider: { select: { name: true } } },
    });
    if (!row || row.deletedAt) throw adapterNotFound(id);
    return toInfo(row);
  }

  /** The adapter's file (safetensors), as `import` takes it. */
  async export(id: string): Promise<Uint8Array> {
    const row = await this.database.adapter.findUnique({ where: { id }, select: { weights: true, deletedAt: true } });
    if (!row || row.deletedAt) throw adapterNotFound(id);
    return row.weights;
  }

  /**
   * Registers an exported adapter, here or from elsewhere, with a provider that takes its prompt.
   * @throws InvalidRequestError when the file is damaged or the provider does not fit
   */
  async import(bytes: Uint8Array, options: { model?: string; suffix?: string }): Promise<AdapterInfo> {
    const { weights, about } = decodeAdapter(bytes);
    const name = options.model ?? about.provider.name;
    const provider = await this.providers.findByName(name);
    if (!provider) {
      throw new InvalidRequestError({
        code: 'model_not_found',
        param: 'model',
        message: options.model
          ? `No provider is named "${name}". GET /v1/providers lists them; POST /v1/providers adds one.`
          : `The adapter belongs to provider "${name}", which is not registered here. Register it, or name another as "model".`,
      });
    }
    requireFit(weights, provider);
    const id = `ft:${provider.name}:${options.suffix ?? ''}:${newId('').slice(0, 12)}`;
    await this.database.$transaction(async (tx) => {
      await tx.adapter.create({
        data: {
          id,
          providerId: provider.id,
          classes: about.classes,
          hyperparameters: about.hyperparameters as Prisma.InputJsonObject,
          metrics: about.metrics as Prisma.InputJsonObject,
          weights: new Uint8Array(bytes),
        },
      });
      await this.ledger.openAccount(tx, { id, kind: 'adapter', providerId: provider.id });
    });
    return this.get(id);
  }

  async delete(id: string): Promise<void> {
    const deleted = await this.database.adapter.updateMany({
      where: { id, deletedAt: null },
      data: { deletedAt: new Date() },
    });
    if (deleted.count === 0) throw adapterNotFound(id);
  }
}

function toInfo(row: Omit<Adapter, 'weights'> & { provider: { name: string } }): AdapterInfo {
  const { provider, ...adapter } = row;
  return { ...adapter, providerName: provider.name };
}

/** @throws InvalidRequestError when the provider does not take such a prompt, or does not answer what the head reads */
function requireFit({ prompt, head }: AdapterWeights, { name, capabilities }: ProviderInfo): void {
  const { returns, contextTokens, contextWidth, promptSpace, promptSpaces = [promptSpace] } = capabilities;
  const refuse = (message: string) => {
    throw new InvalidRequestError({ code: 'adapter_does_not_fit', param: 'model', message });
  };
  const embeds = returns === 'embeddings';
  if (readsAnswers(head) && (head.inputs.kind === 'embedding') !== embeds) {
    refuse(
      embeds
        ? `The adapter's head reads scores of labels, but provider "${name}" answers embeddings. Name one that scores labels.`
        : `The adapter's head reads embeddings of images, but provider "${name}" scores labels. Name one that embeds.`,
    );
  }
  if (!promptSpaces.includes(prompt.space)) {
    refuse(
      `The adapter has a ${prompt.space} prompt, but provider "${name}" takes ${promptSpaces.join(' and ')} ones.`,
    );
  }
  if (prompt.space === 'text') return;
  if (contextTokens === prompt.contextTokens && contextWidth === prompt.contextWidth) return;
  refuse(
    `The adapter's context prompt is ${prompt.contextTokens} × ${prompt.contextWidth}, but provider "${name}" takes ${contextTokens} × ${contextWidth}.`,
  );
}

export function adapterNotFound(id: string): NotFoundError {
  return new NotFoundError({
    code: 'adapter_not_found',
    param: 'adapter_id',
    message: `There is no adapter ${id}. GET /v1/adapters lists them.`,
  });
}
