import { setTimeout as sleep } from 'node:timers/promises';

/** An answer with which the API refuses a request; trying again would not help. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';

  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const PATIENCE_MS = 90_000;
const ATTEMPT_TIMEOUT_MS = 15_000;
const RETRY_MS = 200;

/** A client that goes on trying while the API is down: every request it sends may be repeated. */
export class ApiClient {
  constructor(
    private readonly url: string,
    private readonly apiKey: string,
  ) {}

  get<Answer>(path: string): Promise<Answer> {
    return this.json('GET', path);
  }

  post<Answer>(path: string, body: unknown = {}, idempotencyKey?: string): Promise<Answer> {
    return this.json('POST', path, body, idempotencyKey);
  }

  async download(path: string): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(await (await this.send(path, () => ({}))).arrayBuffer());
  }

  async upload<Answer>(path: string, filename: string, content: string): Promise<Answer> {
    const response = await this.send(path, () => {
      const form = new FormData();
      form.set('purpose', 'fine-tune');
      form.set('file', new Blob([content]), filename);
      return { method: 'POST', body: form };
    });
    return (await response.json()) as Answer;
  }

  private async json<Answer>(method: string, path: string, body?: unknown, idempotencyKey?: string): Promise<Answer> {
    const response = await this.send(path, () => ({
      method,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    }));
    return (await response.json()) as Answer;
  }

  private async send(path: string, init: () => RequestInit): Promise<Response> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const outcome = await this.attempt(path, init());
      if (outcome instanceof Response) return outcome;
      if (outcome instanceof RefusedError || Date.now() > deadline) throw outcome;
      await sleep(RETRY_MS);
    }
  }

  private async attempt(path: string, init: RequestInit): Promise<Response | Error> {
    try {
      const response = await fetch(this.url + path, {
        ...init,
        headers: { ...init.headers, authorization: `Bearer ${this.apiKey}` },
        signal: AbortSignal.timeout(ATTEMPT_TIMEOUT_MS),
      });
      const body = await response.arrayBuffer();
      if (response.ok) return new Response(body, { status: response.status });
      const said = `${init.method ?? 'GET'} ${path} was answered ${response.status}: ${Buffer.from(body).toString('utf8')}`;
      return response.status >= 500 || response.status === 429
        ? new Error(said)
        : new RefusedError(response.status, said);
    } catch (error) {
      return error as Error;
    }
  }
}
