import { type Database, Prisma } from '../db/client.js';
import type { Provider as ProviderRow } from '../db/generated/client.js';
import { ConflictError, NotFoundError } from '../errors.js';
import { newId } from '../ids.js';
import type { AddressPolicy } from '../outgoing/address-policy.js';
import { checkUrl } from '../outgoing/resolve-host.js';
import { badCursor, newerThan, type Page, type PageRequest } from '../paging.js';
import { createProvider, describeProvider } from './protocols.js';
import type { EmbeddingProvider, Provider } from './provider.js';
import type { ProviderConnection } from './provider-connection.js';
import { checkPatch } from './provider-patch.js';
import type { Credentials, ProviderInput, ProviderPatch, ProviderSettings } from './provider-record.js';
import { limitColumns, type ProviderInfo, priceColumns, toInfo } from './provider-row.js';
import { type AmountLimits, toAmountLimits } from './query-limits.js';
import { refuseTokenPrices } from './token-prices.js';
import type { ObserveAnswer } from './transport-response.js';

/** Encrypts and decrypts credentials; bound to their owner's id. */
export interface CredentialBox {
  seal(plaintext: string, boundTo: string): Uint8Array<ArrayBuffer>;
  open(sealed: Uint8Array, boundTo: string): string;
}

/** What of the ledger belongs to a provider: its accounts. The store knows no more of it. */
export interface ProviderAccounts {
  openProviderAccounts(tx: Prisma.TransactionClient, id: string, limits: BudgetLimits): Promise<void>;
  setProviderLimits(tx: Prisma.TransactionClient, id: string, limits: Partial<BudgetLimits>): Promise<void>;
}

interface BudgetLimits {
  total: AmountLimits;
  /** Per day in UTC. */
  daily: AmountLimits;
}

/** Longer than anybody who has not borrowed a connected provider goes on using it after its record changed. */
const RETIREMENT_MS = 15 * 60_000;
/** How long a shutdown waits for the calls in flight. */
const CLOSE_PATIENCE_MS = 30_000;

/**
 * Registered providers, and the connections to those in use: one for all callers of a process and version of the record. A connection whose
 * record has changed is closed once nobody can be using it any more.
 */
export class ProviderStore {
  private readonly connections = new Map<string, { updatedAt: number; provider: Provider }>();
  /** Out of use, and not closed yet. */
  private readonly retired = new Set<Provider>();
  /** How many go on with one for long. */
  private readonly borrowers = new Map<Provider, number>();

  constructor(
    private readonly database: Database,
    private readonly box: CredentialBox,
    private readonly accounts: ProviderAccounts,
    private addresses: AddressPolicy,
  ) {}

  /** Which addresses are called, for processes that are to call the same. */
  get addressPolicy(): AddressPolicy {
    return this.addresses;
  }

  /** Lets this process call an address of the service's own. */
  trust(url: string): void {
    this.addresses = this.addresses.withOrigin(url);
  }

  /**
   * Registers a provider after asking it what it can do.
   * @throws ConflictError when the name is taken; InvalidRequestError or ProviderCallError when it does not answer
   */
  async create(input: ProviderInput): Promise<ProviderInfo> {
    const taken = await this.database.provider.findFirst({ where: { name: input.name, deletedAt: null } });
    if (taken) throw nameTaken(input.name);
    const id = newId('prov-');
    await checkUrl(input.base_url, this.addresses, 'base_url');
    const connection = toConnection(id, input, this.addresses);
    const capabilities = await describeProvider(connection);
    refuseTokenPrices(input.prices, capabilities, input.protocol);
    try {
      const row = await this.database.$transaction(async (tx) => {
        const created = await tx.provider.create({
          data: {
            id,
            name: input.name,
            protocol: input.protocol,
            baseUrl: input.base_url,
            remoteModel: input.remote_model,
            credentials: this.sealed(input.credentials ?? null, id),
            settings: input.settings as unknown as Prisma.InputJsonObject,
            capabilities: capabilities as unknown as Prisma.InputJsonObject,
            ...limitColumns(input.limits),
            ...priceColumns(input.prices),
          },
        });
        const { total, daily } = input.budget;
        await this.accounts.openProviderAccounts(tx, id, {
          total: toAmountLimits(total),
          daily: toAmountLimits(daily),
        });
        return created;
      });
      return toInfo(row);
    } catch (error) {
      if (error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002') throw nameTaken(input.name);
      throw error;
    }
  }

  /**
   * Changes a provider; when where or how it is reached changes, it is asked again what it can do.
   * @throws InvalidRequestError when the patch does not go with the record, or stored credentials would go to another host;
   * ConflictError when the record changed meanwhile
   */
  async update(id: string, patch: ProviderPatch): Promise<ProviderInfo> {
    const row = await this.row(id);
    const settings = checkPatch(row, patch);
    if (patch.base_url !== undefined) await checkUrl(patch.base_url, this.addresses, 'base_url');
    const capabilities = await this.capabilitiesAfter(row, patch, settings);
    refuseTokenPrices(patch.prices ?? {}, capabilities ?? toInfo(row).capabilities, row.protocol);
    const updated = await this.database.$transaction(async (tx) => {
      const [changed] = await tx.provider.updateManyAndReturn({
        where: { id, deletedAt: null, updatedAt: row.updatedAt },
        data: {
          baseUrl: patch.base_url,
          remoteModel: patch.remote_model,
          ...(patch.credentials === undefined ? {} : { credentials: this.sealed(patch.credentials, id) }),
          settings: settings as unknown as Prisma.InputJsonObject | undefined,
          capabilities: capabilities as unknown as Prisma.InputJsonObject | undefined,
          ...limitColumns(patch.limits ?? {}),
          ...priceColumns(patch.prices ?? {}),
          // Connections are kept by it, so no two states of a record may share one.
          updatedAt: new Date(Math.max(Date.now(), row.updatedAt.getTime() + 1)),
        },
      });
      const { total, daily } = patch.budget ?? {};
      if (changed && (total || daily)) {
        await this.accounts.setProviderLimits(tx, id, {
          total: total && toAmountLimits(total),
          daily: daily && toAmountLimits(daily),
        });
      }
      return changed;
    });
    if (updated) return toInfo(updated);
    await this.row(id);
    throw new ConflictError({
      code: 'provider_changed',
      message: 'The provider was changed by another request at the same time. Read it again and repeat the change.',
    });
  }

  /** What the provider says once it is reached as the patch wants; undefined where the patch does not touch that. */
  private async capabilitiesAfter(row: ProviderRow, patch: ProviderPatch, settings: ProviderSettings | undefined) {
    const { base_url, remote_model, credentials } = patch;
    if ([base_url, remote_model, settings, credentials].every((value) => value === undefined)) return undefined;
    const info = toInfo(row);
    const limits = patch.limits ?? {};
    return describeProvider({
      ...info,
      baseUrl: base_url ?? info.baseUrl,
      remoteModel: remote_model ?? info.remoteModel,
      credentials: credentials === undefined ? this.credentialsOf(row) : (credentials ?? undefined),
      settings: settings ?? info.settings,
      addresses: this.addresses,
      limits: {
        ...info.limits,
        concurrency: limits.concurrency ?? info.limits.concurrency,
        timeoutMs: limits.timeout_ms ?? info.limits.timeoutMs,
      },
    } as ProviderConnection);
  }

  /** Oldest first. @throws InvalidRequestError when `after` is no provider's id */
  async list({ limit, after }: PageRequest): Promise<Page<ProviderInfo>> {
    const cursor = after === undefined ? null : await this.database.provider.findUnique({ where: { id: after } });
    if (after !== undefined && !cursor) throw badCursor(after);
    const rows = await this.database.provider.findMany({
      where: { deletedAt: null, ...(cursor ? newerThan(cursor) : {}) },
      orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
      take: limit + 1,
    });
    return { data: rows.slice(0, limit).map(toInfo), hasMore: rows.length > limit };
  }

  async get(id: string): Promise<ProviderInfo> {
    return toInfo(await this.row(id));
  }

  async findByName(name: string): Promise<ProviderInfo | null> {
    const row = await this.database.provider.findFirst({ where: { name, deletedAt: null } });
    return row ? toInfo(row) : null;
  }

  /** @throws ConflictError while a job that is not finished needs it */
  async delete(id: string): Promise<void> {
    await this.row(id);
    const deleted = await this.database.$transaction(async (tx) => {
      // First the lock, then the look: a job that is being created holds the provider.
      await tx.$executeRaw`SELECT 1 FROM providers WHERE id = ${id} FOR UPDATE`;
      return tx.$executeRaw`
        UPDATE providers SET deleted_at = now(), updated_at = now()
        WHERE id = ${id} AND deleted_at IS NULL AND NOT EXISTS (
          SELECT 1 FROM jobs WHERE provider_id = ${id} AND status IN ('validating_files', 'queued', 'running', 'paused'))`;
    });
    if (deleted === 0) {
      throw new ConflictError({
        code: 'provider_in_use',
        param: 'provider_id',
        message:
          'A job that is not finished uses this provider. Cancel it first: POST /v1/fine_tuning/jobs/{id}/cancel.',
      });
    }
    await this.database.imageEmbedding.deleteMany({ where: { providerId: id } });
    const cached = this.connections.get(id);
    this.connections.delete(id);
    if (cached) this.closeInBackground(cached.provider);
  }

  /** A provider ready to be called; one set of connections per provider and process, renewed when its record changes. */
  async connect(id: string): Promise<Provider> {
    const row = await this.row(id);
    const cached = this.connections.get(id);
    // Another caller may have read, and connected by, a newer state of the record.
    if (cached && cached.updatedAt >= row.updatedAt.getTime()) return cached.provider;
    const info = toInfo(row);
    const provider = createProvider(
      { ...info, credentials: this.credentialsOf(row), addresses: this.addresses } as ProviderConnection,
      info,
    );
    this.connections.set(id, { updatedAt: row.updatedAt.getTime(), provider });
    if (cached) this.retire(cached.provider);
    return provider;
  }

  /** As {@link connect}, for whoever goes on with it for long: it stays open until it is given back. */
  async borrow(id: string): Promise<{ provider: Provider; giveBack(): void }> {
    const provider = await this.connect(id);
    this.borrowers.set(provider, (this.borrowers.get(provider) ?? 0) + 1);
    return {
      provider,
      giveBack: () => {
        const others = (this.borrowers.get(provider) ?? 0) - 1;
        if (others > 0) this.borrowers.set(provider, others);
        else this.borrowers.delete(provider);
      },
    };
  }

  /** A provider for one look at it, which sees every answer as it came; whoever asks for it closes it. */
  async connectApart(id: string, observe: ObserveAnswer): Promise<Provider> {
    const row = await this.row(id);
    const info = toInfo(row);
    const credentials = this.credentialsOf(row);
    return createProvider({ ...info, credentials, addresses: this.addresses, observe } as ProviderConnection, info);
  }

  /** Whose embeddings of images are kept under which name, for a provider that embeds. */
  async embeddingSource(id: string): Promise<Pick<EmbeddingProvider, 'id' | 'imageSpace'>> {
    const provider = await this.connect(id);
    if (provider.kind !== 'embedding') throw new TypeError(`Provider ${id} embeds nothing.`);
    return provider;
  }

  /** Waits for the calls in flight, within limits, because they may be paid for. */
  async close(): Promise<void> {
    const providers = [...[...this.connections.values()].map(({ provider }) => provider), ...this.retired];
    this.connections.clear();
    await Promise.all(providers.map((provider) => provider.close(CLOSE_PATIENCE_MS)));
  }

  /** Closes a provider later: whoever got it before its record changed may be between two calls of one prediction. */
  private retire(provider: Provider): void {
    this.retired.add(provider);
    setTimeout(() => {
      if (this.borrowers.has(provider)) this.retire(provider);
      else this.closeInBackground(provider);
    }, RETIREMENT_MS).unref();
  }

  private closeInBackground(provider: Provider): void {
    this.retired.add(provider);
    void provider.close().finally(() => this.retired.delete(provider));
  }

  private sealed(credentials: Credentials | null, id: string) {
    return credentials && this.box.seal(JSON.stringify(credentials), id);
  }

  private async row(id: string): Promise<ProviderRow> {
    const row = await this.database.provider.findUnique({ where: { id } });
    if (row && !row.deletedAt) return row;
    throw new NotFoundError({
      code: 'provider_not_found',
      param: 'provider_id',
      message: `No provider ${id}. GET /v1/providers lists them.`,
    });
  }

  private credentialsOf(row: ProviderRow): Credentials | undefined {
    return row.credentials ? (JSON.parse(this.box.open(row.credentials, row.id)) as Credentials) : undefined;
  }
}

function nameTaken(name: string): ConflictError {
  return new ConflictError({
    code: 'provider_name_taken',
    param: 'name',
    message: `A provider named "${name}" exists. Choose another name, or change it with PATCH /v1/providers/{id}.`,
  });
}

function toConnection(id: string, input: ProviderInput, addresses: AddressPolicy): ProviderConnection {
  return {
    id,
    name: input.name,
    protocol: input.protocol,
    baseUrl: input.base_url,
    remoteModel: input.remote_model,
    credentials: input.credentials,
    settings: input.settings,
    limits: limitColumns(input.limits),
    addresses,
  } as ProviderConnection;
}
