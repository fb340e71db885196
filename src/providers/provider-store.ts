import { type Database, Prisma } from '../db/client.js';
import type { Provider as ProviderRow } from '../db/generated/client.js';
import { ConflictError, InvalidRequestError, NotFoundError } from '../errors.js';
import { newId } from '../ids.js';
import { createProvider, describeProvider } from './protocols.js';
import type { Provider, ProviderCapabilities, ProviderLimits, ProviderPrices } from './provider.js';
import type { ProviderConnection } from './provider-connection.js';
import type { Credentials, OpenInferenceSettings, ProviderInput, ProviderPatch } from './provider-record.js';
import { type AmountLimits, toAmountLimits } from './query-limits.js';

/** A registered provider without its credentials. */
export interface ProviderInfo {
  id: string;
  name: string;
  protocol: string;
  baseUrl: string;
  remoteModel: string;
  hasCredentials: boolean;
  settings: OpenInferenceSettings;
  capabilities: ProviderCapabilities;
  /** As registered; what a job uses also respects the provider's own maxima. */
  limits: ProviderLimits;
  prices: ProviderPrices;
  createdAt: Date;
  updatedAt: Date;
}

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

/** Longer than any holder of a connected provider goes on using it after its record changed. */
const RETIREMENT_MS = 15 * 60_000;
/** How long a shutdown waits for the calls in flight. */
const CLOSE_PATIENCE_MS = 30_000;

export class ProviderStore {
  private readonly connections = new Map<string, { updatedAt: number; provider: Provider }>();
  /** Out of use, and not closed yet. */
  private readonly retired = new Set<Provider>();

  constructor(
    private readonly database: Database,
    private readonly box: CredentialBox,
    private readonly accounts: ProviderAccounts,
  ) {}

  /**
   * Registers a provider after asking it what it can do.
   * @throws ConflictError when the name is taken; InvalidRequestError or ProviderCallError when it does not answer
   */
  async create(input: ProviderInput): Promise<ProviderInfo> {
    const taken = await this.database.provider.findFirst({ where: { name: input.name, deletedAt: null } });
    if (taken) throw nameTaken(input.name);
    const id = newId('prov-');
    const connection = toConnection(id, input);
    const capabilities = await describeProvider(connection);
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
            settings: input.settings,
            capabilities: { ...capabilities },
            ...limitColumns(input.limits),
            pricePerRequestNanoUsd: toNanoUsd(input.prices.per_request_usd),
            pricePerImageQueryNanoUsd: toNanoUsd(input.prices.per_image_query_usd),
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
   * @throws InvalidRequestError when stored credentials would go to another host; ConflictError when the record changed
   * meanwhile
   */
  async update(id: string, patch: ProviderPatch): Promise<ProviderInfo> {
    const row = await this.row(id);
    refuseCredentialsElsewhere(row, patch);
    const { per_request_usd: perRequest, per_image_query_usd: perImageQuery } = patch.prices ?? {};
    const capabilities = await this.capabilitiesAfter(row, patch);
    const updated = await this.database.$transaction(async (tx) => {
      const [changed] = await tx.provider.updateManyAndReturn({
        where: { id, deletedAt: null, updatedAt: row.updatedAt },
        data: {
          baseUrl: patch.base_url,
          remoteModel: patch.remote_model,
          ...(patch.credentials === undefined ? {} : { credentials: this.sealed(patch.credentials, id) }),
          settings: patch.settings,
          capabilities,
          ...limitColumns(patch.limits ?? {}),
          ...(perRequest === undefined ? {} : { pricePerRequestNanoUsd: toNanoUsd(perRequest) }),
          ...(perImageQuery === undefined ? {} : { pricePerImageQueryNanoUsd: toNanoUsd(perImageQuery) }),
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
  private async capabilitiesAfter(row: ProviderRow, patch: ProviderPatch) {
    const { base_url, remote_model, settings, credentials } = patch;
    if ([base_url, remote_model, settings, credentials].every((value) => value === undefined)) return undefined;
    const info = toInfo(row);
    const limits = patch.limits ?? {};
    const capabilities = await describeProvider({
      ...info,
      baseUrl: base_url ?? info.baseUrl,
      remoteModel: remote_model ?? info.remoteModel,
      credentials: credentials === undefined ? this.credentialsOf(row) : (credentials ?? undefined),
      settings: settings ?? info.settings,
      limits: {
        ...info.limits,
        concurrency: limits.concurrency ?? info.limits.concurrency,
        timeoutMs: limits.timeout_ms ?? info.limits.timeoutMs,
      },
    });
    return { ...capabilities };
  }

  async list(): Promise<ProviderInfo[]> {
    const rows = await this.database.provider.findMany({ where: { deletedAt: null }, orderBy: { createdAt: 'asc' } });
    return rows.map(toInfo);
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
    const provider = createProvider({ ...info, credentials: this.credentialsOf(row) }, info);
    this.connections.set(id, { updatedAt: row.updatedAt.getTime(), provider });
    if (cached) this.retire(cached.provider);
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
    setTimeout(() => this.closeInBackground(provider), RETIREMENT_MS).unref();
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

function toConnection(id: string, input: ProviderInput): ProviderConnection {
  return {
    id,
    name: input.name,
    protocol: input.protocol,
    baseUrl: input.base_url,
    remoteModel: input.remote_model,
    credentials: input.credentials,
    settings: input.settings,
    limits: limitColumns(input.limits),
  };
}

/** @throws InvalidRequestError when stored credentials would be sent to a host that they were not given for */
function refuseCredentialsElsewhere(row: ProviderRow, patch: ProviderPatch): void {
  if (row.credentials === null || patch.credentials !== undefined || patch.base_url === undefined) return;
  if (new URL(patch.base_url).origin === new URL(row.baseUrl).origin) return;
  throw new InvalidRequestError({
    code: 'credentials_required',
    param: 'credentials',
    message:
      'The stored credentials are not sent to another host. Send credentials together with base_url, or "credentials": null if the new host needs none.',
  });
}

type LimitsInput = ProviderInput['limits'];

function limitColumns(limits: LimitsInput): ProviderLimits;
function limitColumns(limits: Partial<LimitsInput>): Partial<ProviderLimits>;
function limitColumns(limits: Partial<LimitsInput>): Partial<ProviderLimits> {
  return {
    requestsPerSecond: limits.requests_per_second,
    concurrency: limits.concurrency,
    imagesPerRequest: limits.images_per_request,
    promptsPerRequest: limits.prompts_per_request,
    maxRequestBytes: limits.max_request_bytes,
    timeoutMs: limits.timeout_ms,
  };
}

function toNanoUsd(usd: number): bigint {
  return BigInt(Math.round(usd * 1e9));
}

function toInfo(row: ProviderRow): ProviderInfo {
  return {
    id: row.id,
    name: row.name,
    protocol: row.protocol,
    baseUrl: row.baseUrl,
    remoteModel: row.remoteModel,
    hasCredentials: row.credentials !== null,
    settings: row.settings as unknown as OpenInferenceSettings,
    capabilities: row.capabilities as unknown as ProviderCapabilities,
    limits: {
      requestsPerSecond: row.requestsPerSecond,
      concurrency: row.concurrency,
      imagesPerRequest: row.imagesPerRequest,
      promptsPerRequest: row.promptsPerRequest,
      maxRequestBytes: row.maxRequestBytes,
      timeoutMs: row.timeoutMs,
    },
    prices: {
      perRequestNanoUsd: row.pricePerRequestNanoUsd,
      perImageQueryNanoUsd: row.pricePerImageQueryNanoUsd,
    },
    createdAt: row.createdAt,
    updatedAt: row.updatedAt,
  };
}
