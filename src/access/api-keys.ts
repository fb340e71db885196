import { createHash, randomBytes } from 'node:crypto';
import type { Database } from '../db/client.js';
import { AuthenticationError } from '../errors.js';
import { newId } from '../ids.js';

const REMEMBER_MS = 30_000;
const REMEMBER_AT_MOST = 10_000;

/** Who sent a request. */
export interface Caller {
  apiKeyId: string;
}

/** Bearer keys of the HTTP API. Postgres holds their SHA-256 only. */
export class ApiKeys {
  private readonly known = new Map<string, { caller: Caller; until: number }>();

  constructor(private readonly database: Database) {}

  static generate(): string {
    return `ck-${randomBytes(24).toString('base64url')}`;
  }

  /** Makes a given key valid; does nothing when it already is. */
  async ensure(key: string, name: string): Promise<void> {
    const hash = sha256(key);
    await this.database.apiKey.upsert({
      where: { hash },
      create: { id: newId('key-'), name, hash },
      update: { revokedAt: null },
    });
  }

  /**
   * @param authorization the request's Authorization header
   * @throws AuthenticationError
   */
  async authenticate(authorization: string | undefined): Promise<Caller> {
    const key = /^Bearer\s+(\S+)\s*$/i.exec(authorization ?? '')?.[1];
    if (key === undefined) {
      throw new AuthenticationError({
        code: 'missing_api_key',
        message: 'Send your API key in the header "Authorization: Bearer <key>".',
      });
    }
    const hash = sha256(key);
    const name = Buffer.from(hash).toString('base64');
    const remembered = this.known.get(name);
    if (remembered && remembered.until > Date.now()) return remembered.caller;
    const row = await this.database.apiKey.findUnique({ where: { hash }, select: { id: true, revokedAt: true } });
    if (!row || row.revokedAt) {
      this.known.delete(name);
      throw new AuthenticationError({
        code: 'invalid_api_key',
        message: 'This API key is not known here. The embedded start keeps its key in <data directory>/api-key.',
      });
    }
    if (this.known.size >= REMEMBER_AT_MOST) this.known.clear();
    const caller = { apiKeyId: row.id };
    this.known.set(name, { caller, until: Date.now() + REMEMBER_MS });
    return caller;
  }
}

function sha256(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(createHash('sha256').update(text).digest());
}
