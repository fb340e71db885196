import { createHash, randomBytes } from 'node:crypto';
import type { Database } from '../db/client.js';
import { AuthenticationError } from '../errors.js';
import { newId } from '../ids.js';
import { WrongKeys } from './wrong-keys.js';

const REMEMBER_MS = 30_000;
const REMEMBER_AT_MOST = 10_000;

/** Who sent a request. */
export interface Caller {
  apiKeyId: string;
}

/** Bearer keys of the HTTP API. Postgres holds their SHA-256 only. */
export class ApiKeys {
  private readonly wrongKeys = new WrongKeys();
  private readonly known = new Map<string, { caller: Caller; until: number }>();

  constructor(private readonly database: Database) {}

  static generate(): string {
    return `ck-${randomBytes(24).toString('base64url')}`;
  }

  /** Makes a key the valid one of its name; the one it replaces is revoked. */
  async ensure(key: string, name: string): Promise<void> {
    const hash = sha256(key);
    await this.database.$transaction([
      this.database.apiKey.updateMany({
        where: { name, revokedAt: null, hash: { not: hash } },
        data: { revokedAt: new Date() },
      }),
      this.database.apiKey.upsert({
        where: { hash },
        create: { id: newId('key-'), name, hash },
        update: { revokedAt: null },
      }),
    ]);
  }

  /**
   * @param authorization the request's Authorization header
   * @param address where the request came from; wrong keys from one address are limited, and with them keys that were never seen here
   * @throws AuthenticationError, RateLimitError
   */
  async authenticate(authorization: string | undefined, address: string): Promise<Caller> {
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
    // A key that was a right one is no guess; it may have been revoked since.
    if (!remembered) this.wrongKeys.check(address);
    const row = await this.database.apiKey.findUnique({ where: { hash }, select: { id: true, revokedAt: true } });
    if (!row || row.revokedAt) {
      this.known.delete(name);
      this.wrongKeys.note(address);
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
