import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { CraftError } from '../errors.js';

const VERSION = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Encrypts small secrets at rest: AES-256-GCM, laid out as version, nonce, tag, ciphertext. */
export class SecretBox {
  private readonly key: Buffer;

  /** @param keyHex 32 bytes in hexadecimal */
  constructor(keyHex: string) {
    this.key = Buffer.from(keyHex, 'hex');
    if (this.key.length !== 32) throw new Error('The secret key needs 64 hexadecimal digits.');
  }

  seal(plaintext: string, boundTo: string): Uint8Array<ArrayBuffer> {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.key, nonce).setAAD(Buffer.from(boundTo));
    const ciphertext = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final()]);
    return new Uint8Array(Buffer.concat([Buffer.of(VERSION), nonce, cipher.getAuthTag(), ciphertext]));
  }

  /** @throws CraftError when the secret was sealed with another key or for another owner */
  open(sealed: Uint8Array, boundTo: string): string {
    const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
    try {
      if (bytes[0] !== VERSION) throw new Error('Unknown version of an encrypted secret.');
      const nonce = bytes.subarray(1, 1 + NONCE_BYTES);
      const tag = bytes.subarray(1 + NONCE_BYTES, 1 + NONCE_BYTES + TAG_BYTES);
      const decipher = createDecipheriv('aes-256-gcm', this.key, nonce, { authTagLength: TAG_BYTES })
        .setAAD(Buffer.from(boundTo))
        .setAuthTag(tag);
      return decipher.update(bytes.subarray(1 + NONCE_BYTES + TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
    } catch (cause) {
      throw new CraftError(500, 'server_error', {
        code: 'credentials_unreadable',
        message:
          'The stored credentials of the provider cannot be decrypted: CRAFT_SECRET_KEY differs from the one they were stored with. Start every API and worker process with that key, or store the credentials again: PATCH /v1/providers/{id}.',
        cause,
      });
    }
  }
}
