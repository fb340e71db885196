import { type Database, Prisma } from '../db/client.js';
import type { Provider as ProviderRow } from '../db/generated/client.js';
import { ConflictError, NotFoundError } from '../errors.js';
import { newId } from '../ids.js';
import { createProvider, describeProvider } from './protocols.js';
import type { Provider, ProviderCapabilities, ProviderLimits, ProviderPrices } from './provider.js';
import type { ProviderConnection } from './provider-connection.js';
import type { Credentials, OpenInferenceSettings, ProviderInput, ProviderPatch } from './provider-record.js';

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

/** Opens the ledger account of a new provider, in the transaction that creates it. */
export type OpenAccount = (tx: Prisma.TransactionClient, id: string, providerId: string) => Promise<void>;

export class ProviderStore {
  private readonly connections = new Map<string, { updatedAt: number; provider: Provider }>();

  constructor(
    private readonly database: Database,
    private readonly box: CredentialBox,
    private readonly openAccount: OpenAccount,
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
            credentials: input.credentials ? this.box.seal(JSON.stringify(input.credentials), id) : null,
            settings: input.settings,
            capabilities: { ...capabilities },
            ...limitColumns(input.limits),
            pricePerRequestNanoUsd: toNanoUsd(input.prices.per_request_usd),
            pricePerImageQueryNanoUsd: toNanoUsd(input.prices.per_image_query_usd),
          },
        });
        await this.openAccount(tx, id, id);
        return created;
      });
      return toInfo(row);
    } catch (error) {
      if (error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002') throw nameTaken(input.name);
      throw error;
    }
  }

  /** Changes a provider; when where or how it is reached changes, it is asked again what it can do. */
  async update(id: string, patch: ProviderPatch): Promise<ProviderInfo> {
    const row = await this.row(id);
    const info = toInfo(row);
    const credentials = patch.credentials === undefined ? this.credentialsOf(row) : (patch.credentials ?? undefined);
    const input: ProviderInput = {
      name: info.name,
      protocol: 'open_inference',
      base_url: patch.base_url ?? info.baseUrl,
      remote_model: patch.remote_model ?? info.remoteModel,
      credentials,
      limits: {
        requests_per_second:
          patch.limits?.requests_per_second === undefined
            ? info.limits.requestsPerSecond
            : patch.limits.requests_per_second,
        concurrency: patch.limits?.concurrency ?? info.limits.concurrency,
        images_per_request: patch.limits?.images_per_request ?? info.limits.imagesPerRequest,
        prompts_per_request: patch.limits?.prompts_per_request ?? info.limits.promptsPerRequest,
        timeout_ms: patch.limits?.timeout_ms ?? info.limits.timeoutMs,
      },
      prices: { per_request_usd: 0, per_image_query_usd: 0 },
      settings: patch.settings ?? info.settings,
    };
    const reached = patch.base_url ?? patch.remote_model ?? patch.settings ?? patch.credentials;
    const capabilities = reached === undefined ? info.capabilities : await describeProvider(toConnection(id, input));
    const updated = await this.database.provider.update({
      where: { id },
      data: {
        baseUrl: input.base_url,
        remoteModel: input.remote_model,
        credentials: credentials ? this.box.seal(JSON.stringify(credentials), id) : null,
        settings: input.settings,
        capabilities: { ...capabilities },
        ...limitColumns(input.limits),
        ...(patch.prices?.per_request_usd === undefined
          ? {}
          : { pricePerRequestNanoUsd: toNanoUsd(patch.prices.per_request_usd) }),
        ...(patch.prices?.per_image_query_usd === undefined
          ? {}
          : { pricePerImageQueryNanoUsd: toNanoUsd(patch.prices.per_image_query_usd) }),
        updatedAt: new Date(),
      },
    });
    return toInfo(updated);
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
    const deleted = await this.database.$executeRaw`
      UPDATE providers SET deleted_at = now(), updated_at = now()
      WHERE id = ${id} AND deleted_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM jobs WHERE provider_id = ${id} AND status IN ('validating_files', 'queued', 'running'))`;
    if (deleted === 0) {
      throw new ConflictError({
        code: 'provider_in_use',
        param: 'provider_id',
        message:
          'A job that is not finished uses this provider. Cancel it first: POST /v1/fine_tuning/jobs/{id}/cancel.',
      });
    }
    await this.connections.get(id)?.provider.close();
    this.connections.delete(id);
  }

  /** A provider ready to be called; one set of connections per provider and process, renewed when its record changes. */
  async connect(id: string): Promise<Provider> {
    const row = await this.row(id);
    const cached = this.connections.get(id);
    if (cached?.updatedAt === row.updatedAt.getTime()) return cached.provider;
    const info = toInfo(row);
    const provider = createProvider({ ...info, credentials: this.credentialsOf(row) }, info);
    this.connections.set(id, { updatedAt: row.updatedAt.getTime(), provider });
    // Calls in flight on the old connections end by themselves; new ones go to the new.
    return provider;
  }

  async close(): Promise<void> {
    await Promise.all([...this.connections.values()].map(({ provider }) => provider.close()));
    this.connections.clear();
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
    limits: {
      requestsPerSecond: input.limits.requests_per_second,
      concurrency: input.limits.concurrency,
      imagesPerRequest: input.limits.images_per_request,
      promptsPerRequest: input.limits.prompts_per_request,
      timeoutMs: input.limits.timeout_ms,
    },
  };
}

function limitColumns(limits: ProviderInput['limits']) {
  return {
    requestsPerSecond: limits.requests_per_second,
    concurrency: limits.concurrency,
    imagesPerRequest: limits.images_per_request,
    promptsPerRequest: limits.prompts_per_request,
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
